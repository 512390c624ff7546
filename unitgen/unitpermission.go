// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"path"
	"slices"
	"strings"
)

// harmlessSettings ask nothing of the host that a service does not have
// anyway: order and dependencies, restarts, limits on itself, its own
// sandbox. Anything that is not here needs a grant, also what a later systemd
// may add.
var harmlessSettings = map[string][]string{
	"Unit": strings.Fields(`Description Documentation After Before Wants Requires Requisite BindsTo PartOf Upholds
		OnFailure OnSuccess OnFailureJobMode OnSuccessJobMode RequiresMountsFor WantsMountsFor SourcePath
		DefaultDependencies StopWhenUnneeded RefuseManualStart RefuseManualStop AllowIsolate IgnoreOnIsolate
		CollectMode StartLimitIntervalSec StartLimitInterval StartLimitBurst JobTimeoutSec JobRunningTimeoutSec
		SurviveFinalKillSignal ReloadPropagatedFrom StopPropagatedFrom`),
	"Service": strings.Fields(`Type ExitType RemainAfterExit GuessMainPID PIDFile BusName NotifyAccess RestartSec
		RestartSteps RestartMaxDelaySec RestartMode Restart TimeoutSec TimeoutStartSec TimeoutStopSec TimeoutAbortSec
		TimeoutStartFailureMode TimeoutStopFailureMode RuntimeMaxSec RuntimeRandomizedExtraSec WatchdogSec
		WatchdogSignal SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus NonBlocking
		FileDescriptorStoreMax FileDescriptorStorePreserve OOMPolicy ReloadSignal RootDirectoryStartOnly
		PermissionsStartOnly StartLimitInterval StartLimitIntervalSec StartLimitBurst
		KillMode KillSignal RestartKillSignal SendSIGHUP SendSIGKILL FinalKillSignal
		Environment PassEnvironment UnsetEnvironment WorkingDirectory UMask Nice IOSchedulingClass
		IOSchedulingPriority CPUAffinity NUMAPolicy NUMAMask TimerSlackNSec CoredumpFilter KeyringMode
		RuntimeDirectoryMode RuntimeDirectoryPreserve StateDirectoryMode CacheDirectoryMode LogsDirectoryMode
		ConfigurationDirectoryMode TimeoutCleanSec SyslogIdentifier SyslogFacility SyslogLevel SyslogLevelPrefix
		LogLevelMax LogExtraFields LogRateLimitIntervalSec LogRateLimitBurst LogFilterPatterns LogNamespace
		OOMScoreAdjust CPUAccounting CPUWeight StartupCPUWeight CPUShares StartupCPUShares CPUQuota
		CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes StartupAllowedMemoryNodes
		MemoryAccounting MemoryMin MemoryLow StartupMemoryLow MemoryHigh StartupMemoryHigh MemoryMax
		StartupMemoryMax MemoryLimit MemorySwapMax StartupMemorySwapMax MemoryZSwapMax TasksAccounting TasksMax
		IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax
		IOWriteIOPSMax IODeviceLatencyTargetSec BlockIOAccounting BlockIOWeight IPAccounting IPAddressAllow
		IPAddressDeny SocketBindAllow SocketBindDeny RestrictNetworkInterfaces DevicePolicy Slice
		ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit ManagedOOMPreference
		PrivateTmp ProtectHome NoNewPrivileges CapabilityBoundingSet SecureBits`),
	"Install": strings.Fields(`WantedBy RequiredBy UpheldBy DefaultInstance`),
}

// hazardousUnits do something to the host just by being started.
var hazardousUnits = strings.Fields(`poweroff.target reboot.target halt.target kexec.target soft-reboot.target
	exit.target shutdown.target final.target rescue.target emergency.target rescue.service emergency.service
	sleep.target suspend.target hibernate.target hybrid-sleep.target suspend-then-hibernate.target
	ctrl-alt-del.target system-update.target factory-reset.target debug-shell.service
	systemd-poweroff.service systemd-reboot.service systemd-halt.service systemd-kexec.service
	systemd-soft-reboot.service systemd-exit.service systemd-suspend.service systemd-hibernate.service
	runlevel0.target runlevel1.target runlevel6.target`)

// askUnit notes what the template's unit asks of the host beyond being a
// service.
func (r *renderer) askUnit(launched bool) {
	for _, s := range r.settings {
		if strings.HasPrefix(s.section, "X-") || strings.HasPrefix(s.key, "X-") || s.value == "" {
			continue
		}
		why := r.unit.where(s.offset)
		grant := func() { r.ask("unit:"+s.key+"="+s.value, false, why) }
		switch {
		case strings.HasPrefix(s.key, "Exec") && s.section == "Service":
			if !r.harmlessExec(s) {
				r.ask("exec:"+s.key+"="+s.value, false, why)
			}
		case launched && s.section == "Service" && slices.Contains(notForLauncher, s.key):
			r.probs.add(r.unit.problem(s.offset, "%s= would apply to what sets the container up; it belongs in config.json", s.key))
		case strings.HasPrefix(s.key, "Limit") && s.section == "Service":
		case s.key == "EnvironmentFile":
			file := strings.TrimPrefix(s.value, "-")
			if !path.IsAbs(file) && !strings.HasPrefix(file, "%") {
				r.probs.add(r.unit.problem(s.offset, "EnvironmentFile=%s is not an absolute path", file))
				continue
			}
			r.askHostPath(file, "ro", why)
		case slices.Contains([]string{"StandardInput", "StandardOutput", "StandardError"}, s.key):
			_, file, isFile := strings.Cut(s.value, ":")
			switch {
			case isFile && path.IsAbs(file):
				r.askHostPath(file, "rw", why)
			case !slices.Contains(harmlessStreams, s.value):
				grant()
			}
		case strings.HasSuffix(s.key, "Directory") && directoryBases[s.key] != "":
			for _, d := range strings.Fields(s.value) {
				d, _, _ = strings.Cut(d, ":")
				first, _, _ := strings.Cut(strings.Trim(d, `"'`), "/")
				full := path.Join(directoryBases[s.key], strings.Trim(d, `"'`))
				if !r.ownName(first) || r.detour(full) != "" {
					r.ask("path:"+full+":rw", false, why)
				}
			}
		case strings.HasSuffix(s.key, "Action") && s.value == "none":
		case strings.HasPrefix(s.key, "Condition") || strings.HasPrefix(s.key, "Assert"):
			if s.section != "Unit" {
				grant()
			}
		case s.key == "Conflicts" && only(s.value, "shutdown.target", "umount.target"):
			// What DefaultDependencies= would have said.
		case !slices.Contains(harmlessSettings[s.section], s.key):
			grant()
		case startsUnits(s.key) && slices.ContainsFunc(strings.Fields(s.value), func(u string) bool {
			return slices.Contains(hazardousUnits, u) || strings.HasPrefix(u, "debug-shell")
		}):
			grant()
		}
	}
}

// notForLauncher are settings that would keep the launcher, which needs root
// and the host's files, from setting the container up.
var notForLauncher = []string{"User", "Group", "DynamicUser", "RootDirectory", "RootImage"}

var harmlessStreams = []string{"null", "inherit", "journal", "journal+console", "kmsg", "syslog", "socket"}

var directoryBases = map[string]string{
	"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "CacheDirectory": "/var/cache",
	"LogsDirectory": "/var/log", "ConfigurationDirectory": "/etc",
}

// only reports whether a list of units names these and no others.
func only(list string, units ...string) bool {
	return !slices.ContainsFunc(strings.Fields(list), func(u string) bool { return !slices.Contains(units, u) })
}

func startsUnits(key string) bool {
	switch key {
	case "Wants", "Requires", "BindsTo", "Upholds", "OnFailure", "OnSuccess":
		return true
	}
	return false
}

// askHostPath notes a file of the host that systemd itself reads or writes
// for the service.
func (r *renderer) askHostPath(p, mode, why string) {
	p = path.Clean(p)
	byDefault := r.pathByDefault(p, mode == "rw") || mode == "ro" && r.hostfsByDefault(p)
	if detour := r.detour(p); detour != "" {
		byDefault = false
		why += " (" + detour + ")"
	}
	r.ask("path:"+p+":"+mode, byDefault, why)
}

// harmlessExec reports whether a command line is the launcher's, or a reload
// that signals the payload and nothing else.
func (r *renderer) harmlessExec(s setting) bool {
	command := strings.TrimLeft(s.value, "-")
	if r.isLaunch(command) {
		return s.key == "ExecStart"
	}
	f := strings.Fields(command)
	if s.key != "ExecReload" && s.key != "ExecStop" || len(f) < 2 {
		return false
	}
	if f[0] != "/bin/kill" && f[0] != "/usr/bin/kill" || f[len(f)-1] != "$MAINPID" && f[len(f)-1] != "${MAINPID}" {
		return false
	}
	switch args := f[1 : len(f)-1]; len(args) {
	case 0:
		return true
	case 1:
		signal, ok := strings.CutPrefix(args[0], "-")
		return ok && signalName(signal) != ""
	case 2:
		return (args[0] == "-s" || args[0] == "-n") && signalName(args[1]) != ""
	}
	return false
}
