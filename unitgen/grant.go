// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
)

// grantAll is the grant that allows everything.
const grantAll = "all"

// grantKinds are the words a grant can begin with; docs/formats/grants.md
// explains each.
var grantKinds = []string{
	"path", "cap", "ns", "device", "exec", "hostfs", "setuid", "tmpfiles",
	"unit", "port", "mount", "propagate", "lsm", "sysctl",
}

// ValidGrant reports whether s is a grant.
func ValidGrant(s string) error {
	if s == grantAll {
		return nil
	}
	fail := func(text string) error {
		return hint.New(fmt.Errorf("grant %q: %w", s, errors.New(text)),
			"a grant is KIND:WHAT, for example path:/etc/ssl:ro or cap:NET_ADMIN, or all")
	}
	kind, what, ok := strings.Cut(s, ":")
	switch {
	case !ok || what == "":
		return fail("is not KIND:WHAT")
	case !slices.Contains(grantKinds, kind):
		return fail("has no known kind")
	case strings.ContainsFunc(s, isControl):
		return fail("contains a control character")
	}
	switch kind {
	case "path":
		p, mode := pathGrant(what)
		if mode == "" {
			return fail("must end in :ro or :rw")
		}
		what = p
		fallthrough
	case "hostfs", "setuid", "tmpfiles", "propagate":
		specifier := what != "" && what[0] == '%' && (kind == "path" || kind == "setuid" || kind == "tmpfiles")
		if !path.IsAbs(what) && !specifier || path.Clean(what) != what {
			return fail("does not name an absolute, clean path")
		}
	}
	return nil
}

// Granted reports whether one of the grants covers a wanted permission. A
// grant for a path covers everything below it, read-write covers read-only,
// and a grant that names no argument covers every argument.
func Granted(grants []string, want string) bool {
	kind, what, _ := strings.Cut(want, ":")
	return slices.ContainsFunc(grants, func(g string) bool {
		if g == grantAll || g == want {
			return true
		}
		k, have, ok := strings.Cut(g, ":")
		if !ok || k != kind {
			return false
		}
		switch kind {
		case "path":
			hp, hm := pathGrant(have)
			wp, wm := pathGrant(what)
			return hm != "" && within(wp, hp) && (hm == "rw" || wm == "ro")
		case "hostfs", "tmpfiles", "propagate":
			return within(what, have)
		case "exec", "unit":
			key, _, _ := strings.Cut(what, "=")
			return have == key
		case "device":
			return have == "*:rwm"
		case "cap":
			return have == "ALL"
		}
		return false
	})
}

func pathGrant(s string) (p, mode string) {
	for _, mode := range []string{"ro", "rw"} {
		if p, ok := strings.CutSuffix(s, ":"+mode); ok {
			return p, mode
		}
	}
	return s, ""
}

func (r *renderer) granted(want string) bool { return Granted(r.in.Grants, want) }

// ask notes one permission that the deployment needs.
func (r *renderer) ask(grant string, byDefault bool, why string) {
	grant = escapeControl(grant)
	for i := range r.out.Permissions {
		if p := &r.out.Permissions[i]; p.Grant == grant {
			p.Default = p.Default && byDefault
			return
		}
	}
	r.out.Permissions = append(r.out.Permissions, Permission{Grant: grant, Default: byDefault, Why: why})
}

// escapeControl writes control characters as \xNN: a grant is one line that can
// be pasted.
func escapeControl(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if isControl(c) {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// missing lists the permissions that neither the default profile nor a grant
// covers.
func (r *renderer) missing() []string {
	var missing []string
	for _, p := range r.out.Permissions {
		if !p.Default && !r.granted(p.Grant) {
			missing = append(missing, p.Grant)
		}
	}
	if !slices.Contains(missing, "cap:SYS_ADMIN") {
		return missing
	}
	// CAP_SYS_ADMIN comes with a list of thirty others, and next to it they
	// make no difference: one grant says what it is.
	isCap := func(g string) bool { return strings.HasPrefix(g, "cap:") }
	i := slices.IndexFunc(missing, isCap)
	return slices.Insert(slices.DeleteFunc(missing, isCap), i, "cap:ALL")
}

// readablePaths may be mounted read-only by any container.
var readablePaths = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/localtime", "/etc/timezone", "/etc/machine-id",
	"/etc/os-release", "/usr/lib/os-release", "/usr/share/zoneinfo",
	"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

// reservedNames are directories and files of the host that a container does
// not own because it happens to be called like them.
var reservedNames = strings.Fields(`
	NetworkManager PackageKit X11 acpi adjtime alternatives anacrontab apparmor apparmor.d apt at.allow at.deny
	atomic audit auth.log bash bash.bashrc bash_completion.d binfmt.d bluetooth btmp buildkit buildkitd
	ca-certificates ceph chrony cloud cni console-setup containerd containers cri-o crio cron cron.d cron.daily
	cron.hourly cron.monthly cron.weekly cron.yearly crontab crypttab csh.cshrc csh.login cups dbus dbus-1 default
	depmod.d dhcp dmesg dnf docker docker.sock dpkg dracut.conf.d emacs environment environment.d exports fish
	flatpak fstab gdm group grub.d gshadow gss host.conf hostname hosts hosts.allow hosts.deny incus inetd.conf
	init init.d initcpio initramfs-tools inittab inputrc iproute2 iptables issue journal kdump kern.log kernel
	krb5.conf kubelet kubernetes lastlog ld.so ld.so.cache ld.so.conf ld.so.conf.d ld.so.preload libvirt lightdm
	localtime lock login.defs logrotate.conf logrotate.d lvm lxc lxd machine-id machines mdadm messages misc
	modprobe.d modules modules-load.d motd mount multipath needrestart netns netplan network network-scripts
	networks nfs nftables nftables.conf nsswitch.conf nut openvpn openvswitch opt os-release pam pam.conf pam.d
	passwd perl pkcs11 pki pm podman polkit polkit-1 portables ppp private profile profile.d python3 qemu rc rc.d
	rc.local rc0.d rc1.d rc2.d rc3.d rc4.d rc5.d rc6.d request-key.conf request-key.d resolv.conf resolvconf root
	rpm rsyslog.conf rsyslog.d runit samba sasl2 secure securetty security selinux services sgml shadow shells skel
	snap snapd snapd.socket ssh ssl sssd subgid subuid sudo sudo.conf sudoers sudoers.d sv sysconfig sysctl
	sysctl.conf sysctl.d syslog systemd sysusers.d terminfo tmpfiles.d udev udisks2 ufw update-motd.d
	usb_modeswitch user utmp vim wireguard wpa_supplicant wtmp xdg xinetd xinetd.conf xinetd.d xtables.lock yum
	yum.repos.d zsh`)

// own reports whether a host path belongs to the container by its name: the
// first component below one of the host's directories for configuration,
// state and run-time files is the container's or the image's name.
func (r *renderer) own(p string) bool {
	p = hostPath(p)
	bases := []string{
		r.values["CONF_DIRECTORY"], r.values["STATE_DIRECTORY"], r.values["RUN_DIRECTORY"],
		"/etc/default", "/etc/sysconfig", "/var/log", "/var/cache",
	}
	for _, base := range bases {
		rest, ok := strings.CutPrefix(p, strings.TrimSuffix(hostPath(base), "/")+"/")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(rest, "/")
		if r.ownName(first) {
			return true
		}
	}
	return within(p, r.in.DestDir)
}

// ownName reports whether a file name begins with the container's or the
// image's name: etcd, etcd.conf, etcd-data; also flanneld for flannel.
func (r *renderer) ownName(file string) bool {
	if slices.Contains(reservedNames, file) || strings.ContainsAny(file, "*?[") {
		return false
	}
	for _, name := range []string{r.in.Name, imageBase(r.in.ImageName)} {
		rest, ok := strings.CutPrefix(file, name)
		if name != "" && ok && !slices.Contains(reservedNames, name) &&
			(rest == "" || rest == "d" || strings.ContainsAny(rest[:1], ".-_@")) {
			return true
		}
	}
	return false
}

// imageBase is the last component of an image name without tag and digest.
func imageBase(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// hostPath resolves the symlinks that every host has.
func hostPath(p string) string {
	p = path.Clean(p)
	for from, to := range map[string]string{"/var/run": "/run", "/var/lock": "/run/lock"} {
		if within(p, from) {
			return to + strings.TrimPrefix(p, from)
		}
	}
	return p
}

// pathByDefault reports whether the default profile lets a container mount a
// host path.
func (r *renderer) pathByDefault(p string, rw bool) bool {
	p = hostPath(p)
	if r.own(p) {
		return true
	}
	return !rw && slices.ContainsFunc(readablePaths, func(d string) bool { return within(p, d) })
}

// hostfsByDefault reports whether the default profile lets an image install a
// file on the host.
func (r *renderer) hostfsByDefault(p string) bool {
	p = hostPath(p)
	return r.own(p) || strings.HasPrefix(p, "/usr/local/") ||
		strings.HasPrefix(p, "/etc/sysconfig/") || strings.HasPrefix(p, "/etc/default/")
}
