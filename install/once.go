// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/flock"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
)

// OnceOptions say what to run without installing it.
type OnceOptions struct {
	// Container is an installed container to take configuration and root file
	// system from; if it is empty, Source names an image.
	Container string
	Source
	// Name of the run; empty means one of its own.
	Name string
	// Args are the command instead of the image's.
	Args   []string
	Set    map[string]string
	Grants []string
	Add    unitgen.Options
	// Terminal gives the command a terminal of the container's own, for which
	// the caller waits at Once.Console.
	Terminal bool
	// Service runs it as a service in the background, with everything that its
	// unit says, instead of as a command in the foreground.
	Service bool
}

// Once is a container that is ready to be run once. It lives in a directory
// below /run and in a transient unit; when that stops, both are gone.
type Once struct {
	Name string
	Unit systemd.Transient
	// Console is the socket to wait at for a terminal.
	Console string

	dir  string
	made []string // directories below /run
	lock *flock.Lock
}

// Once prepares a container to be run once. The caller removes it in the end.
func (a *Agent) Once(ctx context.Context, o OnceOptions) (*Once, error) {
	if !a.sd.Live() {
		return nil, hint.New(errors.New("the system does not run"), "leave out --root to work on this one")
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("run-once-%d", os.Getpid())
		if o.Container != "" {
			o.Name = fmt.Sprintf("%.40s-run-%d", o.Container, os.Getpid())
		}
	}
	if err := record.CheckName(o.Name); err != nil {
		return nil, hint.New(err, "choose another name with --name")
	}
	if o.Add.Isolation == unitgen.IsolationNative {
		return nil, hint.New(errors.New("--isolation=native is for what is installed"), "leave it out")
	}
	if o.Add.SurviveSoftReboot == "yes" {
		return nil, hint.New(errors.New("--survive-soft-reboot is for what is installed"), "leave it out")
	}
	if o.Add.HealthOnFailure == "restart" {
		return nil, hint.New(errors.New("--health-on-failure is for what is installed"), "leave it out")
	}
	if a.Installed(o.Name) {
		return nil, hint.New(fmt.Errorf("%s is the name of an installed container", o.Name), "choose another name with --name")
	}
	once := &Once{Name: o.Name, dir: a.host.Once(o.Name)}
	if err := os.MkdirAll(filepath.Dir(once.dir), 0o711); err != nil {
		return nil, hint.Root(err)
	}
	a.sweepOnce(ctx)
	var err error
	if once.lock, err = a.lock(o.Name); err != nil {
		return nil, err
	}
	if err := os.Mkdir(once.dir, 0o711); err != nil {
		once.lock.Unlock()
		if errors.Is(err, fs.ErrExist) {
			err = hint.New(fmt.Errorf("%s runs already", o.Name), "choose another name with --name")
		}
		return nil, hint.Root(err)
	}
	once.Console = filepath.Join(once.dir, "console")
	if o.Container != "" {
		err = a.onceFromContainer(once, o)
	} else {
		err = a.onceFromImage(ctx, once, o)
	}
	if err != nil {
		return nil, errors.Join(err, once.Remove())
	}
	return once, nil
}

// sweepOnce removes what was prepared by commands that were killed before they
// could start it. What was started, the unit removes.
func (a *Agent) sweepOnce(ctx context.Context) {
	entries, _ := os.ReadDir(filepath.Dir(a.host.Once("x"))) // just made
	for _, e := range entries {
		lock, err := a.lock(e.Name())
		if err != nil {
			continue // its owner is at work
		}
		unit := e.Name() + ".service"
		if states, err := a.sd.States(ctx, []string{unit}); err == nil && states[unit].Active == "" {
			once := &Once{dir: a.host.Once(e.Name()), lock: lock}
			if err := once.Remove(); err != nil {
				a.log.Warn("remove what was never run, ignoring", "err", err)
			}
		}
		lock.Unlock()
	}
}

// Started leaves the rest to the unit.
func (once *Once) Started() { once.lock.Unlock() }

// Remove removes what the unit has left behind: nothing, unless it never ran.
func (once *Once) Remove() error {
	defer once.lock.Unlock()
	if err := mount.Unmount(filepath.Join(once.dir, "rootfs")); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL) { // not mounted
		return err
	}
	for _, dir := range slices.Backward(once.made) {
		_ = os.Remove(dir) // somebody else may use it by now
	}
	return os.RemoveAll(once.dir)
}

// onceFromContainer takes an installed container's configuration with another
// command. It shares everything with the container but its own processes.
func (a *Agent) onceFromContainer(once *Once, o OnceOptions) error {
	d, err := a.deployed(o.Container)
	if err != nil {
		return err
	}
	if !d.rec.HasContainerService {
		return nothingTo("run", o.Container)
	}
	if d.rec.Atomic.Start.Engine == unitgen.IsolationNative {
		return hint.New(fmt.Errorf("%s is isolated by systemd alone, which runs no other command in its place", o.Container), "start it, or run its image: atomic run "+d.rec.Image)
	}
	config, err := os.ReadFile(filepath.Join(d.dir(), "config.json"))
	if err != nil {
		return err
	}
	var texts [2][]byte
	for i, file := range []string{o.Container + ".service", unitgen.DropInName(o.Container)} {
		if texts[i], err = os.ReadFile(filepath.Join(d.dir(), file)); err != nil {
			return err
		}
	}
	rec := *d.rec
	settings, err := onceSettings(texts[0], texts[1])
	if err != nil {
		return err
	}
	// Its run-time directories are the service's, which may start meanwhile.
	settings = slices.DeleteFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, "RuntimeDirectory") })
	return a.writeOnce(once, o, &rec, config, nil, settings)
}

func (a *Agent) onceFromImage(ctx context.Context, once *Once, o OnceOptions) error {
	txn, err := a.transaction(ctx)
	if err != nil {
		return err
	}
	defer txn.Abort()
	// Between its commit and its mount nothing else protects the image.
	hold, err := txn.Store().Begin(ctx)
	if err != nil {
		return err
	}
	defer hold.Abort()
	p := &prepared{txn: txn, d: &deployment{host: a.host, name: o.Name}}
	if p.runtime, err = a.chooseRuntime(ctx, o.Add); err != nil {
		return err
	}
	if p.pulled, p.img, err = a.fetch(ctx, txn, o.Source); err != nil {
		return err
	}
	// From the choice of its IDs until they are on the disk nobody else chooses.
	host, err := a.hostLock(ctx)
	if err != nil {
		return err
	}
	defer host.Unlock()
	r := request{name: o.Name, set: o.Set, add: addOptions(unitgen.Options{}, o.Add), grants: o.Grants, once: true}
	if err := a.render(ctx, p, r, paths.Host{}.Once(o.Name)); err != nil {
		return err
	}
	if p.out.DropIn == nil {
		return nothingTo("run", p.pulled.Name)
	}
	rootfs, err := p.putRootfs()
	if err != nil {
		return err
	}
	if err := tag(txn, p.pulled, p.img); err != nil {
		return err
	}
	if err := txn.Commit(); err != nil {
		return err
	}
	settings, err := onceSettings(p.out.Unit, p.out.DropIn)
	if err != nil {
		return err
	}
	return a.writeOnce(once, o, a.record(p, r, rootfs), p.out.Config, p.out.Tmpfiles, settings)
}

// writeOnce makes the deployment's directory and the transient unit.
func (a *Agent) writeOnce(once *Once, o OnceOptions, rec *record.Record, config, tmpfiles []byte, settings []setting) error {
	old := rec.Atomic.Name
	var err error
	if config, err = once.editConfig(config, o, old); err != nil {
		return err
	}
	rec.HasContainerService = true
	rec.InstalledFiles, rec.InstalledFilesChecksum = []string{}, map[string]string{}
	rec.Atomic.Name, rec.Atomic.Generation = once.Name, 0
	rec.Atomic.Units, rec.Atomic.Directories, rec.Atomic.ConfigSHA256 = []record.File{}, nil, fileSum(config)
	start := &rec.Atomic.Start
	start.Unit, start.MountUnit, start.PlanSHA256, start.Health = once.Name+".service", "", "", nil
	if start.Runtime == nil {
		start.Engine = "oci" // plans are for what is started often
	}
	start.Bus = false
	if !o.Service {
		start.Notify, start.NotifyPath, start.Register = "launcher", "", false
	} else if start.Notify == "" {
		start.Notify, start.Register = "launcher", a.conf.Machined.Register
	}
	info, err := rec.Marshal()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(once.dir, "rootfs"), 0o755); err != nil {
		return err
	}
	for file, content := range map[string][]byte{"info": info, "config.json": config, "tmpfiles.conf": tmpfiles} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(once.dir, file), content, 0o600); err != nil {
			return err
		}
	}
	once.Unit = once.unit(o, rec, settings, tmpfiles != nil)
	// The unit's device policy may keep it from mounting.
	m := mount.Options{
		StoreDir: a.host.Store(), Image: rec.Atomic.Rootfs.Image, Target: filepath.Join(once.dir, "rootfs"),
		Verity: rec.Atomic.Rootfs.Verity, VerifyContent: rec.Atomic.Rootfs.Verify == "start",
	}
	if ids := rec.Atomic.IDs; ids != nil {
		m.IDs = mount.IDs{First: ids.First, Count: ids.Count}
	}
	_, err = mount.Mount(m)
	return err
}

// editConfig puts the command into the configuration, and makes the directories
// below /run that it mounts: nobody else does, as long as the service is down.
func (once *Once) editConfig(config []byte, o OnceOptions, old string) ([]byte, error) {
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		return nil, fmt.Errorf("parse config.json: %w", err)
	}
	if spec.Process == nil {
		return nil, errors.New("config.json has no process")
	}
	if len(o.Args) > 0 {
		spec.Process.Args = o.Args
	}
	spec.Process.Terminal = o.Terminal
	// The login bus is the installed container's.
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return isBelow(m.Source, filepath.Dir(paths.Host{}.Bus(old))) })
	for i, m := range spec.Mounts {
		if rest, ok := strings.CutPrefix(m.Source, paths.Host{}.Run(old)+"/"); ok {
			spec.Mounts[i].Source = paths.Host{}.Run(once.Name) + "/" + rest
			continue
		}
		if o.Container == "" || !isBelow(m.Source, "/run") {
			continue
		}
		if err := once.makeDir(m.Source); err != nil {
			return nil, err
		}
	}
	return json.Marshal(&spec)
}

func (once *Once) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !filepath.IsAbs(dir) {
		return nil // it is there
	}
	if err := once.makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	once.made = append(once.made, dir)
	return nil
}

// setting is one assignment of a unit.
type setting struct{ section, key, value string }

// onceSettings reads what unit and drop-in say together.
func onceSettings(texts ...[]byte) ([]setting, error) {
	var list []setting
	for _, text := range texts {
		options, err := systemd.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("parse unit: %w", err)
		}
		for _, o := range options {
			if o.Value == "" {
				list = slices.DeleteFunc(list, func(s setting) bool { return s.section == o.Section && s.key == o.Name })
				continue
			}
			list = append(list, setting{o.Section, o.Name, o.Value})
		}
	}
	return list, nil
}

// notTransient are the settings that a transient unit of ours has otherwise.
var notTransient = strings.Fields("ExecStart ExecStop SourcePath RequiresMountsFor LogExtraFields Documentation")

// notForCommands are the settings that are about a service and not about a
// command in the foreground.
var notForCommands = strings.Fields(`Type NotifyAccess PIDFile ExecCondition ExecStartPre ExecStartPost ExecReload ExecStopPost
	Restart RestartSec RestartSteps RestartMaxDelaySec RestartMode RestartPreventExitStatus RestartForceExitStatus RemainAfterExit
	BusName WatchdogSec TimeoutStartSec TimeoutSec GuessMainPID StandardInput StandardOutput StandardError Sockets
	FileDescriptorStoreMax OOMPolicy WorkingDirectory SuccessExitStatus`)

// unit is the transient unit: the settings of the rendered one, and the removal
// of everything as its last command.
func (once *Once) unit(o OnceOptions, rec *record.Record, settings []setting, tmpfiles bool) systemd.Transient {
	u := systemd.Transient{Name: once.Name + ".service", Command: []string{paths.Launcher, "start", once.Name}}
	set := func(key, format string, args ...any) {
		u.Properties = append(u.Properties, key+"="+fmt.Sprintf(format, args...))
	}
	dir := paths.Host{}.Once(once.Name)
	if tmpfiles {
		set("ExecStartPre", "-/usr/bin/systemd-tmpfiles --create %s/tmpfiles.conf", dir)
	}
	for _, s := range settings {
		switch {
		case s.section != "Service" && (s.section != "Unit" || !o.Service):
		case s.key == "Wants" && strings.HasPrefix(s.value, "atomic-health@"): // nothing of that is on the disk
		case slices.Contains(notTransient, s.key), !o.Service && slices.Contains(notForCommands, s.key):
		default:
			// Only unit files have specifiers.
			set(s.key, "%s", strings.ReplaceAll(s.value, "%%", "%"))
		}
	}
	set("LogExtraFields", "CONTAINER_NAME=%s", once.Name)
	set("LogExtraFields", "CONTAINER_IMAGE=%s", rec.Image)
	if !o.Service {
		set("Type", "exec")
		set("NotifyAccess", "main")
		// Its first instructions may not hear the signal yet that ends it.
		set("TimeoutStopSec", "10")
		set("Description", "%s, once", rec.Image)
	}
	if o.Container != "" {
		set("RuntimeDirectory", "atomic/%s", once.Name)
	}
	if tmpfiles {
		set("ExecStopPost", "-/usr/bin/systemd-tmpfiles --remove %s/tmpfiles.conf", dir)
	}
	set("ExecStopPost", "-+%s cleanup %s", paths.Launcher, once.Name)
	return u
}

// RunOnce runs in the foreground and returns the command's exit code.
func (a *Agent) RunOnce(ctx context.Context, once *Once, s systemd.Streams) (int, error) {
	return a.sd.RunTransient(ctx, once.Unit, s)
}

// StartOnce starts in the background and waits until it is up.
func (a *Agent) StartOnce(ctx context.Context, once *Once) error {
	return a.sd.StartTransient(ctx, once.Unit)
}
