// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/install/store/mount"
)

// mountImage is mount.atomic(8): mount(8) calls it for file systems of the type
// "atomic", which is how a deployment's mount unit mounts its root file system.
func mountImage(args []string) error {
	o, err := parseMount(args)
	if err != nil {
		return err
	}
	o.StoreDir = host().Store()
	_, err = mount.Mount(o)
	return err
}

// parseMount reads WHAT WHERE [-sfnv] [-N NAMESPACE] [-o OPTIONS]. WHAT is for
// people; the image is named by an option.
func parseMount(args []string) (mount.Options, error) {
	var o mount.Options
	var words []string
	options := ""
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case (arg == "-o" || arg == "-t" || arg == "-N") && i+1 < len(args):
			i++
			if arg == "-o" {
				options += "," + args[i]
			}
		case strings.HasPrefix(arg, "-o"):
			options += "," + arg[2:]
		case strings.HasPrefix(arg, "-") && strings.Trim(arg[1:], "sfnv") == "":
		default:
			words = append(words, arg)
		}
	}
	if len(words) != 2 {
		return o, errUsage
	}
	if err := parseOptions(options, &o); err != nil {
		return o, err
	}
	target, err := filepath.Abs(words[1])
	if err != nil {
		return o, err
	}
	o.Target = target
	return o, nil
}

// parseOptions reads ours among the options of mount(8). Those it cannot give
// are refused; those that ask for what an image has anyway, or that are meant
// for others, are ignored.
func parseOptions(options string, o *mount.Options) error {
	for opt := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(opt, "=")
		switch name {
		case "image":
			o.Image = value
		case "verity":
			o.Verity = value
		case "verify":
			if value != "start" && value != "never" {
				return fmt.Errorf("mount option verify=%s is neither verify=start nor verify=never", value)
			}
			o.VerifyContent = value == "start"
		case "idmap":
			if _, err := fmt.Sscanf(value, "%d:%d", &o.IDs.First, &o.IDs.Count); err != nil || value != fmt.Sprintf("%d:%d", o.IDs.First, o.IDs.Count) || o.IDs.Count == 0 {
				return fmt.Errorf("mount option idmap=%s is not idmap=FIRST:COUNT", value)
			}
		case "rw", "remount", "bind", "move":
			return fmt.Errorf("mount option %q: images are read-only and mounted as a whole", name)
		case "", "ro", "auto", "noauto", "defaults", "nofail", "user", "nouser", "users", "owner", "group", "_netdev",
			"nodev", "nosuid", "noexec", "dev", "suid", "exec", "relatime", "noatime", "atime", "strictatime", "nodiratime", "silent":
		default:
			if !strings.HasPrefix(name, "x-") && !strings.HasPrefix(name, "X-") && name != "comment" {
				return fmt.Errorf("unknown mount option %q", name)
			}
		}
	}
	if o.Image == "" {
		return fmt.Errorf("mount option image=DIGEST is missing")
	}
	return nil
}

// isMountHelper reports whether the program was called as mount.atomic.
func isMountHelper() bool { return filepath.Base(os.Args[0]) == "mount.atomic" }
