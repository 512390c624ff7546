// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/templates"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// The files of the contract as problems name them.
const (
	configFile         = "/exports/config.json"
	configTemplateFile = "/exports/config.json.template"
	serviceFile        = "/exports/service.template"
)

// A renderer is one call of Render: what is rendered so far.
type renderer struct {
	in     Input
	out    *Output
	probs  *Problems
	values map[string]string

	runOnce   bool
	generated bool  // the configuration is the default one
	planned   bool  // the configuration can have a plan
	config    *text // config.json before normalisation
	places    map[string]int
	unit      *text
	settings  []setting
	tmpText   *text
	mounts    []rspec.Mount // of config.json
	links     []string      // symlinks that the image puts on the host
	tmpLines  []tmpfilesLine
	// volumeSources are what --volume mounts.
	volumeSources []string
	// made are the paths that tmpfiles or the host files make: 'd' or 'f'.
	made map[string]byte
}

// Render renders a deployment. Its error is *Problems, and lists everything
// that is wrong with the input at once. Missing grants are not an error: the
// caller asks for them (Output.Missing).
func Render(in Input) (*Output, error) {
	r := &renderer{in: in, out: &Output{}, probs: &Problems{}, made: map[string]byte{}}
	r.checkInput()
	m, err := ParseManifest(in.Exports.Manifest)
	if p, ok := err.(*Problems); ok { //nolint:errorlint // ParseManifest returns nothing else.
		r.probs.List = append(r.probs.List, p.List...)
		// Without its defaults every variable would be reported as missing.
		return nil, r.probs.err()
	}
	r.out.Warnings = checkValues(&r.in, r.probs)
	r.values = values(&r.in, m)
	r.runOnce = Label(in.ImageConfig.Config.Labels, "atomic.run") == "once"
	r.out.RunOnce, r.out.UseLinks = r.runOnce, m.UseLinks

	r.tmpfiles()
	spec := r.configuration(m)
	r.starter(spec)
	r.hostFiles(m)
	r.service(m, spec)
	r.permissions(spec)
	if err := r.probs.err(); err != nil {
		return nil, err
	}
	if r.out.Config, err = encode(spec); err != nil {
		return nil, fmt.Errorf("encode config.json: %w", err)
	}
	if r.planned && r.out.Unit != nil && r.launches() {
		r.out.Plan, _ = plan.Compile(spec) // which starter has tried
	}
	r.out.Values = r.values
	r.out.Missing = r.missing()
	return r.out, nil
}

// starter chooses the program that the unit executes: the one for plans, if the
// configuration can have one.
func (r *renderer) starter(spec *rspec.Spec) {
	if r.in.Host.Starter == "" || spec == nil || r.isolation() == IsolationNative || r.in.Runtime != "" {
		return
	}
	if _, err := plan.Compile(spec); err == nil {
		r.planned = true
		r.values["EXEC_START"] = execStart(r.in.Host.Starter, r.in.Name)
	}
}

func (r *renderer) warnf(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(r.out.Warnings, w) {
		r.out.Warnings = append(r.out.Warnings, w)
	}
}

func (r *renderer) checkInput() {
	if err := ValidName(r.in.Name); err != nil {
		r.probs.addf("--name", 0, 0, "%v", err)
	}
	if !path.IsAbs(r.in.DestDir) || path.Clean(r.in.DestDir) != r.in.DestDir {
		r.probs.addf("deployment", 0, 0, "directory %q is not an absolute, clean path", r.in.DestDir)
	}
	for _, g := range r.in.Grants {
		if err := ValidGrant(g); err != nil {
			r.probs.addf("--grant", 0, 0, "%v", err)
		}
	}
	for _, s := range []string{r.in.ImageName, r.in.ImageID, r.in.Host.Launcher, r.in.Host.Agent} {
		if strings.ContainsFunc(s, isControl) {
			r.probs.addf("image", 0, 0, "%q contains a control character", s)
		}
	}
}

// Label looks an image label up in the spellings that the contract accepts.
func Label(labels map[string]string, name string) string {
	for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name[:1]) + name[1:], strings.ToUpper(name)} {
		if v, ok := labels[n]; ok {
			return v
		}
	}
	return ""
}

// configuration renders config.json: the image's verbatim file, its template,
// or the default completed from the image's own configuration. nil means an
// empty one.
func (r *renderer) configuration(m Manifest) *rspec.Spec {
	switch e := r.in.Exports; {
	case e.ConfigJSON != nil:
		r.config = plain(configFile, e.ConfigJSON)
	case e.ConfigTemplate != nil:
		r.config = substitute(configTemplateFile, e.ConfigTemplate, r.values, r.probs)
	case m.NoContainerService:
		return nil
	default:
		r.generated = true
		r.config = substitute(templates.ConfigFile, templates.Config, r.values, r.probs)
	}
	if r.config == nil {
		return nil
	}
	before := len(r.probs.List)
	checkFragments(r.config, r.probs)
	if len(r.probs.List) > before {
		return nil
	}
	spec := parseConfig(r.config, r.probs)
	if spec == nil {
		return nil
	}
	if spec.Process == nil {
		spec.Process = &rspec.Process{}
	}
	if spec.Linux == nil {
		spec.Linux = &rspec.Linux{}
	}
	if r.generated {
		r.fillConfig(spec, r.in.ImageConfig.Config)
	}
	r.options(spec)
	switch {
	case r.generated && r.isolation() == IsolationOCI:
		r.userNamespace(spec)
	case r.in.Options.UserNS == "":
	case r.generated:
		r.warnf("--userns has no effect with --isolation=%s", r.isolation())
	default:
		r.warnf("--userns has no effect: the image brings its own configuration")
	}
	r.isolate(spec)
	r.normalise(spec)
	r.checkConfig(spec)
	r.checkSupported(spec)
	return spec
}

// service renders the unit and what depends on it.
func (r *renderer) service(m Manifest, spec *rspec.Spec) {
	if m.NoContainerService {
		return
	}
	if r.runOnce {
		if spec != nil {
			r.generateTmpfiles(spec)
			r.out.MountPoints = r.mountPoints(spec)
			if r.out.StopSignal = r.stopSignal(r.in.ImageConfig.Config); r.out.StopSignal == "" {
				r.out.StopSignal = "SIGTERM"
			}
			r.out.Notify = "launcher"
			r.out.DropIn = r.dropIn(spec, true)
		}
		return
	}
	if t := r.in.Exports.ServiceTemplate; t != nil {
		r.unit = substitute(serviceFile, t, r.values, r.probs)
	} else {
		r.unit = substitute(templates.ServiceFile, templates.Service, r.values, r.probs)
	}
	if r.unit == nil {
		return
	}
	if !checkLines(r.unit, false, r.probs) {
		return
	}
	r.settings = parseUnit(r.unit, r.probs)
	r.out.Unit = r.unit.out
	if r.out.StopSignal = r.stopSignal(r.in.ImageConfig.Config); r.out.StopSignal == "" {
		r.warnf("the stop signal %q is unknown: SIGTERM it is", r.in.ImageConfig.Config.StopSignal)
		r.out.StopSignal = "SIGTERM"
	}
	launched := r.launches()
	if spec == nil {
		if launched && r.config != nil && len(r.probs.List) == 0 {
			r.probs.addf(r.config.file, 1, 1, "is empty: there is nothing for $EXEC_START to start")
		}
		spec = &rspec.Spec{Process: &rspec.Process{}, Linux: &rspec.Linux{}}
		launched = false
	}
	r.out.Notify = notifyLauncher
	if launched && r.isolation() == IsolationNative {
		r.native(spec)
		return
	}
	if launched {
		r.out.Notify = r.notifyMode(spec)
	}
	if r.out.Notify != notifyLauncher {
		r.out.NotifyPath = r.notifyMount(spec)
	}
	if launched {
		r.loginBus(spec)
	}
	if launched {
		r.out.Health = r.health()
		r.out.HealthTimer = r.healthTimer()
	}
	r.out.DropIn = r.dropIn(spec, launched)
	if launched {
		r.generateTmpfiles(spec)
		r.out.MountPoints = r.mountPoints(spec)
	}
}

// native renders what starts a container without the launcher.
func (r *renderer) native(spec *rspec.Spec) {
	r.out.Native = true
	if r.moveHostBus(spec) {
		r.probs.addf(r.config.file, 1, 1, "the host's D-Bus at %s, where machined takes it for the container's own: not with --isolation=native", ownBus)
	}
	r.out.DropIn = r.dropIn(spec, true)
	if r.health() != nil {
		r.warnf("the image's health check is not used: there is nobody to run it with --isolation=native")
	}
	r.generateTmpfiles(spec)
	with := *spec
	with.Mounts = append(nativeMountPoints(), spec.Mounts...)
	r.out.MountPoints = r.mountPoints(&with)
}

func (r *renderer) permissions(spec *rspec.Spec) {
	if spec != nil {
		r.mounts = spec.Mounts
	}
	r.collectLinks()
	if spec != nil && (r.unit == nil || r.launches() || !r.generated) {
		r.askConfig(spec)
	}
	r.askPorts(r.in.ImageConfig.Config)
	if r.unit != nil {
		r.askUnit(r.launches())
	}
	if r.tmpText != nil {
		r.askTmpfiles()
	}
	r.askHostFiles()
}

// encode writes config.json; an absent configuration is an empty object.
func encode(spec *rspec.Spec) ([]byte, error) {
	if spec == nil {
		return []byte("{}\n"), nil
	}
	content, err := json.MarshalIndent(spec, "", "  ")
	return append(content, '\n'), err
}
