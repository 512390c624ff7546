// SPDX-License-Identifier: Apache-2.0

package unitgen

import "strings"

// What a unit needs to live through `systemctl soft-reboot`, in which systemd
// stops everything, kills what is left and starts again. shutdown.target stops
// what conflicts with it; it is part of a soft reboot as of any other, so that
// the real ways to end are named one by one.
const (
	realEnds = "reboot.target kexec.target poweroff.target halt.target"
	newModes = "rescue.target emergency.target"
)

// outlives reports whether the container is to live through a soft reboot.
func (r *renderer) outlives() bool {
	switch r.in.Options.SurviveSoftReboot {
	case "yes":
		return true
	case "", "no":
	default:
		r.probs.addf("--survive-soft-reboot", 0, 0, "%q is neither yes nor no", r.in.Options.SurviveSoftReboot)
	}
	return false
}

// outliveMount are the dependencies of a mount that stays during a soft reboot.
func outliveMount(b *strings.Builder) {
	b.WriteString("Conflicts=" + realEnds + "\nBefore=" + realEnds + " umount.target\n")
}

// outliveHelper are those of a socket or a timer: it has no process to be spared.
func outliveHelper(b *strings.Builder) {
	b.WriteString("IgnoreOnIsolate=yes\nConflicts=" + realEnds + "\nBefore=" + realEnds + " shutdown.target\n")
}

// outlive writes the same for the service, and warns of what the template says
// that would end it nevertheless.
func (r *renderer) outlive(line func(string, ...any)) {
	if r.out.Notify == notifyFilter {
		r.probs.addf("--survive-soft-reboot", 0, 0, "not with a watchdog or Type=notify-reload: a soft reboot closes the socket on which a payload that can be the host's root tells of itself; leave one of them out")
	}
	early, _ := last(r.settings, "Unit", "DefaultDependencies")
	line("SurviveFinalKillSignal=yes")
	line("IgnoreOnIsolate=yes")
	line("DefaultDependencies=no")
	if !isFalse(early) {
		line("After=sysinit.target basic.target")
	}
	line("Conflicts=%s %s", realEnds, newModes)
	line("Before=%s %s shutdown.target", realEnds, newModes)
	for _, s := range r.settings {
		switch {
		case s.section == "Service" && s.key == "Slice" && s.value != "" && s.value != "system.slice" && s.value != "atomic.slice":
			r.warnf("a soft reboot ends the container, unless %s has DefaultDependencies=no", s.value)
		case s.section == "Unit" && (s.key == "Requires" || s.key == "BindsTo" || s.key == "PartOf") && s.value != "":
			r.warnf("a soft reboot ends the container with what it depends on: %s=%s", s.key, s.value)
		case s.section == "Unit" && s.key == "Conflicts" && (strings.Contains(s.value, "shutdown.target") || strings.Contains(s.value, "umount.target")):
			r.warnf("a soft reboot ends the container: the image's unit says Conflicts=%s", s.value)
		}
	}
}

func isFalse(s string) bool {
	switch strings.ToLower(s) {
	case "no", "false", "0", "off", "n", "f":
		return true
	}
	return false
}
