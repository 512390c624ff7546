// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
)

// pidFile is where systemd learns the payload's PID.
func pidFile(name string) string { return paths.Host{}.Run(name) + "/pid" }

// RootfsMount says how a deployment's root file system is mounted.
type RootfsMount struct {
	Where  string // absolute
	Image  string // fs-verity digest in hex
	Verity string // policy: "require", "try" or "off"
	// Verify is "start" if mounting checks all content that the kernel does
	// not check.
	Verify string
	// IDs are those of the container's user namespace; nil if it has none.
	IDs *IDRange
	// Outlive says that it stays during a soft reboot.
	Outlive bool
}

func (m *RootfsMount) options() string {
	o := "ro,image=" + m.Image + ",verity=" + m.Verity
	if m.Verify == "start" {
		o += ",verify=start"
	}
	if m.IDs != nil {
		o += fmt.Sprintf(",idmap=%d:%d", m.IDs.First, m.IDs.Count)
	}
	return o
}

// MountUnit renders the unit that mounts a deployment's root file system. It is
// not a part of Output: it names the digest of the image, which depends on
// Output.MountPoints.
func MountUnit(name string, generation int, m RootfsMount) (unitName string, content []byte) {
	var b strings.Builder
	deployment := name + "." + strconv.Itoa(generation)
	fmt.Fprintf(&b, `# Written by atomic for the container %s. Changes are lost at its next update.
[Unit]
Description=Root file system of container %s
Documentation=man:atomic(1)
DefaultDependencies=no
`, name, name)
	if m.Outlive {
		outliveMount(&b)
	} else {
		b.WriteString("Conflicts=umount.target\nBefore=umount.target\n")
	}
	fmt.Fprintf(&b, `
[Mount]
What=%s
Where=%s
Type=atomic
Options=%s
`, deployment, escapeSpecifiers(m.Where), m.options())
	return unit.UnitNamePathEscape(m.Where) + ".mount", []byte(b.String())
}

// escapeSpecifiers protects a literal text from systemd's % expansion.
func escapeSpecifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quoteWord writes one word of a setting that is a list of words.
func quoteWord(s string) string {
	s = escapeSpecifiers(s)
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\;#") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// cannotQuote reports whether quoteWord has no way to write a character.
func cannotQuote(c rune) bool { return isControl(c) && c != '\n' && c != '\t' }

// dropIn renders 50-atomic.conf: how the process is handed over, and what of
// config.json is systemd's business. What the template asks of systemd stays.
func (r *renderer) dropIn(spec *rspec.Spec, launched bool) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	unset := func(key string) bool { return !assigned(r.settings, "Service", key) }
	line("# Written by atomic for the container %s. Changes are lost at its next update;", r.in.Name)
	line("# systemctl edit %s.service makes a drop-in that is not.", r.in.Name)
	line("[Unit]")
	line("RequiresMountsFor=%s", quoteWord(r.in.DestDir+"/rootfs"))
	if launched && !assigned(r.settings, "Unit", "SourcePath") {
		line("SourcePath=%s", escapeSpecifiers(r.in.DestDir+"/config.json"))
	}
	if r.out.Notify == notifyFilter {
		line("Wants=atomic-notify@%s.socket", r.in.Name)
		line("After=atomic-notify@%s.socket", r.in.Name)
	}
	if r.out.Login {
		line("Wants=%s", BusSocketName(r.in.Name))
		line("After=%s", BusSocketName(r.in.Name))
	}
	if r.out.HealthTimer != nil {
		line("Wants=%s", HealthTimerName(r.in.Name))
	}
	if r.outlives() {
		r.outlive(line)
	}
	unitLines, serviceLines := r.properties()
	for _, p := range unitLines {
		line("%s", p)
	}
	line("")
	line("[Service]")
	if r.out.Native {
		r.nativeService(spec, line)
	} else if launched {
		r.launcherService(spec, line, unset)
	}
	if unset("Slice") {
		line("Slice=atomic.slice")
	}
	if unset("SyslogIdentifier") {
		line("SyslogIdentifier=%s", r.in.Name)
	}
	line("LogExtraFields=%s %s", quoteWord("CONTAINER_NAME="+r.in.Name), quoteWord("CONTAINER_IMAGE="+r.in.ImageName))
	if launched {
		resourceLimits(spec, line, unset)
	}
	if launched && !r.out.Native { // PrivateDevices= has a policy of its own
		r.devicePolicy(spec, line)
	}
	for _, p := range serviceLines {
		line("%s", p)
	}
	if n, _ := last(r.settings, "Service", "FileDescriptorStoreMax"); launched && strings.Trim(n, " 0") != "" && r.out.Notify != notifyRaw {
		r.warnf("FileDescriptorStoreMax= has no effect: descriptors reach systemd only from a payload that notifies and cannot be uid 0 of the host")
	}
	if launched && !r.out.Native && r.watched() && r.out.Notify == notifyLauncher {
		r.warnf("WatchdogSec= is turned off: the unit is not of Type=notify, so nobody would say that the payload is alive")
		line("WatchdogSec=0")
	}
	return []byte(b.String())
}

// launcherService writes the settings of a service whose process the launcher
// hands over.
func (r *renderer) launcherService(spec *rspec.Spec, line func(string, ...any), unset func(string) bool) {
	switch kind, _ := last(r.settings, "Service", "Type"); kind {
	case "oneshot": // started when the payload has ended
		line("Type=oneshot")
	case "notify-reload":
		line("Type=notify") // for systemd 252, which ignores the next line
		line("Type=notify-reload")
	default:
		line("Type=notify")
	}
	if r.out.Notify == notifyRaw {
		line("NotifyAccess=all") // any process of the container, as elsewhere
	} else {
		line("NotifyAccess=main")
	}
	line("PIDFile=%s", pidFile(r.in.Name))
	line("RuntimeDirectory=atomic/%s", r.in.Name)
	if unset("KillMode") {
		line("KillMode=mixed")
	}
	line("KillSignal=%s", r.out.StopSignal)
	if r.out.Init != "" {
		// Process 1 cannot die of a signal as its payload did. These are those of
		// which a service may (HUP, INT, PIPE, TERM).
		line("SuccessExitStatus=129 130 141 143")
	}
	// Little has to run after a stop, and running anything then takes longer
	// than the stop itself. systemd removes the run-time directory, machined
	// forgets a stopped unit's machine, and a start replaces what a crash
	// left. Hooks are the exception, a restart that is long in coming, and a
	// runtime that wants to be told.
	if spec.Hooks != nil && len(spec.Hooks.Poststop) > 0 || r.in.Host.Machined && r.restartsLate() || r.in.Runtime != "" {
		line("ExecStopPost=-%s cleanup %s", r.in.Host.Launcher, r.in.Name)
	}
}

// nativeService writes the settings of a service that systemd starts itself.
func (r *renderer) nativeService(spec *rspec.Spec, line func(string, ...any)) {
	kind, _ := last(r.settings, "Service", "Type")
	switch {
	case kind == "oneshot":
		line("Type=oneshot")
	case (kind == "notify" || kind == "notify-reload") && !mayBeHostRoot(spec):
		line("Type=%s", kind)
		line("NotifyAccess=main")
	default:
		if kind == "notify" || kind == "notify-reload" {
			r.warnf("the service counts as started when it is executed: systemd believes uid 0 whatever it says, so the payload cannot say that it is ready")
		}
		line("Type=exec")
		line("NotifyAccess=none")
		if r.watched() {
			r.warnf("WatchdogSec= is turned off: the payload cannot say that it is alive")
			line("WatchdogSec=0")
		}
	}
	if assigned(r.settings, "Service", "PIDFile") {
		line("PIDFile=")
	}
	if assigned(r.settings, "Service", "ExecStop") {
		line("ExecStop=")
	}
	if _, ok := last(r.settings, "Service", "KillMode"); !ok {
		line("KillMode=mixed")
	}
	line("KillSignal=%s", r.out.StopSignal)
	for _, l := range r.nativeLines(spec) {
		line("%s", l)
	}
}

func assigned(settings []setting, section, key string) bool {
	_, ok := last(settings, section, key)
	return ok
}

// resourceLimits writes config.json's limits. One that the template's unit sets
// itself wins.
func resourceLimits(spec *rspec.Spec, line func(string, ...any), unset func(string) bool) {
	for _, p := range resourceProperties(spec.Linux.Resources) {
		if unset(p.key) {
			line("%s=%s", p.key, p.value)
		}
	}
}

// devicePolicy makes unit properties of config.json's device rules. Without a
// rule that allows everything the container gets the usual pseudo devices,
// its own nodes and whatever the rules allow.
func (r *renderer) devicePolicy(spec *rspec.Spec, line func(string, ...any)) {
	rules := deviceRules(spec)
	if slices.Contains(rules, deviceRule{"*", "rwm"}) {
		line("DevicePolicy=auto")
		return
	}
	line("DevicePolicy=closed")
	line("DeviceAllow=char-pts rw")
	for _, d := range rules {
		line("DeviceAllow=%s %s", d.node, d.access)
	}
	// The launcher runs in the unit's own cgroup, so what it opens counts. The
	// payload has no node of the device; it would need CAP_MKNOD to make one.
	if node := tpmNode(r.in.Host.TPMDevice); node != "" {
		line("DeviceAllow=%s rw", node)
	}
}

// tpmNode names a TPM's device for DeviceAllow=. The kernel's resource managers
// are named by their class: unlike a path, it may be missing without a warning.
func tpmNode(device string) string {
	if strings.HasPrefix(device, "/dev/tpmrm") {
		return "char-tpm"
	}
	return device
}

// deviceRule is an argument pair of DeviceAllow=; node "*" is every device.
type deviceRule struct{ node, access string }

func deviceRules(spec *rspec.Spec) []deviceRule {
	var rules []deviceRule
	add := func(d deviceRule) {
		if !slices.Contains(rules, d) {
			rules = append(rules, d)
		}
	}
	if spec.Linux.Resources != nil {
		for _, d := range spec.Linux.Resources.Devices {
			access := d.Access
			if access == "" {
				access = "rwm"
			}
			any := d.Type == "" || d.Type == "a"
			switch {
			case !d.Allow && any:
				rules = nil // what follows is an allow-list
			case !d.Allow:
				// An exception from an allow-all list; DeviceAllow= has none.
			case any:
				rules = []deviceRule{{"*", "rwm"}}
			default:
				add(deviceRule{deviceNode(d), access})
			}
		}
	}
	for _, d := range spec.Linux.Devices {
		if d.Type == "c" || d.Type == "u" || d.Type == "b" {
			major, minor := d.Major, d.Minor
			add(deviceRule{deviceNode(rspec.LinuxDeviceCgroup{Type: d.Type, Major: &major, Minor: &minor}), "rwm"})
		}
	}
	return rules
}

// deviceNode names a device class or node in systemd's terms.
func deviceNode(d rspec.LinuxDeviceCgroup) string {
	class := "char"
	if d.Type == "b" {
		class = "block"
	}
	switch {
	case d.Major == nil || *d.Major < 0:
		return class + "-*"
	case d.Minor == nil || *d.Minor < 0:
		return fmt.Sprintf("%s-%d", class, *d.Major)
	}
	return fmt.Sprintf("/dev/%s/%d:%d", class, *d.Major, *d.Minor)
}

// stopSignal is the signal that asks the payload to end: the template's, then
// the image's, then SIGTERM.
func (r *renderer) stopSignal(config ispec.ImageConfig) string {
	if s, ok := last(r.settings, "Service", "KillSignal"); ok {
		return signalName(s)
	}
	if config.StopSignal != "" {
		return signalName(config.StopSignal)
	}
	return "SIGTERM"
}

var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1",
	11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP",
	20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH",
	29: "IO", 30: "PWR", 31: "SYS",
}

// signalName turns any spelling of a signal into systemd's; "" if there is no
// such signal.
func signalName(s string) string {
	s = strings.ToUpper(strings.TrimSpace(s))
	if n, err := strconv.Atoi(s); err == nil {
		switch {
		case n > 0 && n < len(signalNames):
			return "SIG" + signalNames[n]
		case n >= 34 && n <= 64:
			return "SIGRTMIN+" + strconv.Itoa(n-34)
		}
		return ""
	}
	s = strings.TrimPrefix(s, "SIG")
	if slices.Contains(signalNames[1:], s) {
		return "SIG" + s
	}
	if off, ok := strings.CutPrefix(s, "RTMIN"); ok && (off == "" || off[0] == '+') {
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(off, "+")); err == nil && n <= 30 {
			return "SIGRTMIN+" + strconv.Itoa(n)
		}
	}
	return ""
}

// launches reports whether the unit starts the container: whether the command
// of an ExecStart= is $EXEC_START.
func (r *renderer) launches() bool {
	return slices.ContainsFunc(r.settings, func(s setting) bool {
		return s.section == "Service" && s.key == "ExecStart" && r.isLaunch(s.value)
	})
}

func (r *renderer) isLaunch(command string) bool {
	fields := strings.Fields(command)
	if len(fields) != 3 || fields[1] != "start" {
		return false
	}
	return (fields[0] == path.Clean(r.in.Host.Launcher) || r.planned && fields[0] == path.Clean(r.in.Host.Starter)) &&
		strings.Trim(fields[2], `"'`) == r.in.Name
}
