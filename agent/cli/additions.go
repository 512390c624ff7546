// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/pflag"

	"github.com/atomic-agent/atomic/unitgen"
)

// additionFlags defines the options by which the administrator adds to what an
// image says; several verbs have them.
func additionFlags(f *pflag.FlagSet, o *unitgen.Options) {
	f.StringArrayVarP(&o.Env, "env", "e", nil, "give the payload an environment variable, `NAME=VALUE`; can be repeated")
	f.StringArrayVarP(&o.Volumes, "volume", "v", nil, "mount a host directory or a named one of the container's own, `SOURCE:DESTINATION[:ro]`; can be repeated")
	f.StringArrayVarP(&o.Publish, "publish", "p", nil, "reach a port of the container, `[HOSTPORT:]PORT[/PROTOCOL]`; can be repeated")
	f.StringVar(&o.Init, "init", "", "whether the payload gets a process 1 that reaps orphans and passes signals on: `auto` (if an image without a configuration starts a shell script), yes or no")
	f.StringVar(&o.UserNS, "userns", "", "whether an image without a configuration gets a user namespace: `auto` or host")
	f.StringArrayVar(&o.Properties, "property", nil, "set any property of the unit, limits for example, `KEY=VALUE`; can be repeated")
	f.StringVar(&o.Isolation, "isolation", "", "who isolates the container, and how far: `oci` (the default), native or fly")
	f.StringVar(&o.Runtime, "runtime", "", "have another OCI runtime make the container, an absolute `PATH`, or atomic")
	f.StringVar(&o.SurviveSoftReboot, "survive-soft-reboot", "", "whether the container runs on while systemctl soft-reboot restarts the host's user space: yes or `no`")
	f.Lookup("survive-soft-reboot").NoOptDefVal = "yes"
	f.StringVar(&o.HealthOnFailure, "health-on-failure", "", "what happens when the image's health check says that the container is unhealthy: `none` (it is reported) or restart")
}
