// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
)

// Source says where an image comes from.
type Source struct {
	// Image is the name as the administrator wrote it.
	Image string
	// Credentials are "USER:PASSWORD", empty for those of auth.json.
	Credentials string
	// AllowUnsigned overrides the signature policy for this command.
	AllowUnsigned bool
	// Pull says whether a registry is asked.
	Pull Pull
	// Progress shows the fetching; may be nil.
	Progress image.Progress
}

// insecure reports whether the registry may be asked without TLS.
func (s *Source) insecure() bool {
	name, err := image.ParseName(s.Image)
	return err == nil && name.Insecure
}

// Pull says when a registry is asked for an image that is in the store.
type Pull string

// Always asks, Missing asks if the image is not in the store or may not be used
// from there, Never does not.
const (
	Always  Pull = "always"
	Missing Pull = "missing"
	Never   Pull = "never"
)

// prepared is a deployment that is complete but for the host: the image is in
// the transaction, everything is rendered and checked.
type prepared struct {
	txn    *store.Txn
	pulled *image.Image
	img    *store.Image
	out    *unitgen.Output
	d      *deployment
	// files are the content of the deployment's directory, by relative name.
	files map[string]unitgen.HostFile
	unit  string // name of the mount unit
	// runtime makes the container; nil if the launcher does.
	runtime *ociRuntime
}

// request is what prepare needs to know.
type request struct {
	name   string
	source Source
	set    map[string]string // of this command and of earlier ones
	add    unitgen.Options   // likewise
	grants []string
	from   *deployment // when updating
	once   bool        // it is run and not installed
}

func (a *Agent) openStore() (*store.Store, error) {
	c := a.conf.Store
	// What is no metadata of an image needs little: collect garbage rather
	// than grow.
	debug.SetMemoryLimit(c.MaxMetadata + 24<<20)
	return store.Open(a.host.Store(), store.Options{Verity: string(c.Verity), MaxMetadata: c.MaxMetadata})
}

// transaction begins a change of the store, which the caller ends.
func (a *Agent) transaction(ctx context.Context) (*store.Txn, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, hint.Root(err)
	}
	txn, err := st.Begin(ctx)
	return txn, hint.Root(err)
}

// candidates returns what the name of an image can stand for, and how to ask.
func (a *Agent) candidates(src Source) (*types.SystemContext, *image.Candidates, error) {
	name, err := image.ParseName(src.Image)
	if err != nil {
		return nil, nil, err
	}
	sys, err := image.System(image.Options{Host: a.host, Credentials: src.Credentials, Insecure: name.Insecure})
	if err != nil {
		return nil, nil, err
	}
	candidates, err := image.Resolve(sys, name)
	return sys, candidates, err
}

// fetch pulls an image into the transaction.
func (a *Agent) fetch(ctx context.Context, txn *store.Txn, src Source) (*image.Image, *store.Image, error) {
	sys, candidates, err := a.candidates(src)
	if err != nil {
		return nil, nil, err
	}
	policy, err := trust.Load(a.host, src.AllowUnsigned)
	if err != nil {
		return nil, nil, err
	}
	if src.Pull == Missing || src.Pull == Never {
		pulled, img, err := a.local(txn, policy, candidates)
		if err == nil || src.Pull == Never {
			return pulled, img, err
		}
	}
	var dest *oci.Reference
	p := &image.Puller{System: sys, Policy: policy, Progress: src.Progress}
	pulled, err := p.Pull(ctx, candidates, func(img *image.Image) (types.ImageReference, error) {
		dest = oci.NewReference(txn, img.Ref)
		return dest, nil
	})
	if err != nil {
		return nil, nil, err
	}
	img, err := dest.Image()
	if err != nil {
		return nil, nil, err
	}
	return pulled, img, nil
}

// prepare fetches and renders a new deployment. The host is not touched, and
// the store only by what a garbage collection removes. The caller ends the
// transaction.
func (a *Agent) prepare(ctx context.Context, txn *store.Txn, r request) (*prepared, error) {
	p := &prepared{txn: txn}
	var err error
	if p.runtime, err = a.chooseRuntime(ctx, r.add); err != nil {
		return nil, err
	}
	if p.pulled, p.img, err = a.fetch(ctx, txn, r.source); err != nil {
		return nil, err
	}
	gen, err := a.nextGeneration(r.name)
	if err != nil {
		return nil, err
	}
	p.d = &deployment{host: a.host, name: r.name, gen: gen}
	if err := a.render(ctx, p, r, paths.Host{}.Deployment(r.name, gen)); err != nil {
		return nil, err
	}
	if p.out.RunOnce {
		return nil, hint.New(fmt.Errorf("%s %w", p.pulled.Name, ErrRunOnce), "run it: atomic run "+p.pulled.Name)
	}
	return p, a.seal(ctx, p, r)
}

// render renders a deployment in a directory and asks for the grants it lacks.
func (a *Agent) render(ctx context.Context, p *prepared, r request, dir string) error {
	in, err := a.input(ctx, p, r)
	if err != nil {
		return err
	}
	in.DestDir = dir
	if in.Options.Isolation == unitgen.IsolationNative {
		if err := a.checkNative(ctx); err != nil {
			return err
		}
	}
	if p.runtime != nil {
		in.Runtime = p.runtime.Path
	}
	if in.Options.SurviveSoftReboot == "yes" {
		if err := a.checkSoftReboot(ctx); err != nil {
			return err
		}
	}
	if r.once {
		in.Host.Starter = "" // plans are for what is started often
	}
	if p.out, err = unitgen.Render(*in); err != nil {
		return err
	}
	if err := p.runtime.check(p.out); err != nil {
		return err
	}
	for _, w := range p.out.Warnings {
		a.say("Warning: %s", w)
	}
	if len(p.out.Missing) > 0 && (r.once || !p.out.RunOnce) {
		// The administrator is to come again; what was fetched need not.
		return errors.Join(grantError(p), tag(p.txn, p.pulled, p.img), p.txn.Commit())
	}
	return nil
}

func grantError(p *prepared) error {
	e := &GrantError{Image: p.pulled.Name, Missing: p.out.Missing, Why: map[string]string{}}
	for _, q := range p.out.Permissions {
		e.Why[q.Grant] = q.Why
	}
	return e
}

func (p *prepared) putRootfs() (image string, err error) {
	for _, m := range p.out.MountPoints {
		if err := p.img.Tree.AddMountPoint(m.Path, m.Dir); err != nil {
			return "", err
		}
	}
	return p.txn.PutImage(p.img.Tree)
}

// seal writes the root file system's image, which has the mount points that
// rendering found missing, and makes the record.
func (a *Agent) seal(ctx context.Context, p *prepared, r request) error {
	rootfs, err := p.putRootfs()
	if err != nil {
		return err
	}
	m := unitgen.RootfsMount{
		Where: filepath.Join(paths.Host{}.Deployment(r.name, p.d.gen), "rootfs"), Image: rootfs,
		Verity: string(a.conf.Store.Verity), Verify: a.conf.Store.Verify, IDs: p.out.IDs,
		Outlive: r.add.SurviveSoftReboot == "yes",
	}
	var mountUnit []byte
	p.unit, mountUnit = unitgen.MountUnit(r.name, p.d.gen, m)
	if p.out.Unit == nil {
		mountUnit = nil
	}
	p.d.rec = a.record(p, r, rootfs)
	a.collect(p, mountUnit)
	a.addPlan(ctx, p, rootfs)
	if p.out.Unit == nil || !a.sd.Live() {
		return nil
	}
	units := map[string][]byte{p.unit: mountUnit, r.name + ".service": p.out.Unit}
	units[unitgen.DropInName(r.name)] = p.out.DropIn
	if p.out.Login {
		units[unitgen.BusSocketName(r.name)], units[unitgen.BusServiceName(r.name)] = p.out.BusSocket, p.out.BusService
	}
	if p.out.HealthTimer != nil {
		units[unitgen.HealthTimerName(r.name)] = p.out.HealthTimer
	}
	later := []string{paths.Host{}.Deployment(r.name, p.d.gen)}
	if p.out.Native {
		later = append(later, p.out.Command) // in the image
	}
	return systemd.Verify(ctx, units, later)
}

func (a *Agent) record(p *prepared, r request, rootfs string) *record.Record {
	out := p.out
	rec := &record.Record{
		Image:                  p.pulled.Name,
		Revision:               strings.TrimPrefix(p.img.ManifestDigest, "sha256:"),
		Values:                 out.Values,
		HasContainerService:    out.Unit != nil,
		InstalledFiles:         []string{},
		InstalledFilesChecksum: map[string]string{},
		InstalledFilesTemplate: out.HostFileTemplates,
		RenameInstalledFiles:   out.Renames,
		Runtime:                paths.Launcher,
		UseLinks:               out.UseLinks,
		SystemPackage:          "no",
	}
	grants := slices.Clone(r.grants)
	slices.Sort(grants)
	rec.Atomic = record.Deployment{
		Name: r.name, Generation: p.d.gen,
		ManifestDigest: p.img.ManifestDigest, ConfigDigest: p.img.ConfigDigest,
		IndexDigest: p.pulled.IndexDigest.String(), Insecure: r.source.insecure(),
		Rootfs: record.Rootfs{
			Type: "composefs", Image: rootfs, Verity: string(a.conf.Store.Verity), Enforced: p.txn.Store().Verity(),
		},
		Signature:  p.pulled.Signature,
		UserValues: maps.Clone(r.set), Options: recordOptions(r.add), Grants: slices.Compact(grants),
		ConfigSHA256: fileSum(out.Config),
	}
	if a.conf.Store.Verify == "start" {
		rec.Atomic.Rootfs.Verify = "start"
	}
	if out.IDs != nil {
		rec.Atomic.IDs = &record.IDs{First: out.IDs.First, Count: out.IDs.Count}
	}
	if rec.HasContainerService {
		rec.Atomic.Start = record.Start{
			Unit: r.name + ".service", MountUnit: p.unit, StopSignal: out.StopSignal,
			Notify: out.Notify, NotifyPath: out.NotifyPath, Register: a.conf.Machined.Register, Bus: out.Bus, Engine: "oci",
			Init: out.Init,
		}
		if p.runtime != nil {
			rec.Runtime = p.runtime.Path
			rec.Atomic.Start.Engine, rec.Atomic.Start.Runtime = "runtime", &p.runtime.Runtime
		}
		if out.Native {
			rec.Atomic.Start.Engine, rec.Atomic.Start.Register = unitgen.IsolationNative, false
		}
		if h := out.Health; h != nil {
			rec.Atomic.Start.Health = &record.Health{
				Test: h.Command, Interval: h.Interval.Milliseconds(), Timeout: h.Timeout.Milliseconds(),
				StartPeriod: h.StartPeriod.Milliseconds(), Retries: h.Retries,
			}
		}
	}
	return rec
}

// collect lists the files of the deployment's directory and, in the record,
// those that systemd reads on the host.
func (a *Agent) collect(p *prepared, mountUnit []byte) {
	permissions, _ := json.MarshalIndent(p.out.Permissions, "", "  ") // strings and booleans
	p.files = map[string]unitgen.HostFile{
		"config.json":   {Content: p.out.Config, Mode: 0o600},
		permissionsFile: {Content: append(permissions, '\n'), Mode: 0o600},
	}
	bare := paths.Host{}
	add := func(path string, content []byte) {
		if content == nil {
			return
		}
		p.d.rec.Atomic.Units = append(p.d.rec.Atomic.Units, record.File{Path: path, SHA256: fileSum(content)})
		rel, _ := filepath.Rel(p.d.dir(), p.d.copyOf(path)) // copies are below the directory
		p.files[rel] = unitgen.HostFile{Content: content, Mode: 0o644}
	}
	name := p.d.name
	p.d.rec.Atomic.Units = []record.File{}
	add(filepath.Join(bare.Units(), p.unit), mountUnit)
	add(filepath.Join(bare.Units(), unitgen.DropInName(name)), p.out.DropIn)
	add(filepath.Join(bare.Units(), unitgen.BusSocketName(name)), p.out.BusSocket)
	add(filepath.Join(bare.Units(), unitgen.BusServiceName(name)), p.out.BusService)
	add(filepath.Join(bare.Units(), unitgen.HealthTimerName(name)), p.out.HealthTimer)
	add(tmpfilesPath(name), p.out.Tmpfiles)
	add(filepath.Join(bare.Units(), name+".service"), p.out.Unit)
}

// input gathers what rendering depends on.
func (a *Agent) input(ctx context.Context, p *prepared, r request) (*unitgen.Input, error) {
	exports, err := readExports(p.img.Tree)
	if err != nil {
		return nil, err
	}
	host, err := a.facts(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := a.chooseIDs(r.name)
	if err != nil {
		return nil, err
	}
	in := &unitgen.Input{
		Name: r.name, Generation: p.d.gen, DestDir: paths.Host{}.Deployment(r.name, p.d.gen),
		ImageName: p.pulled.Name, ImageID: strings.TrimPrefix(p.img.ManifestDigest, "sha256:"), ImageConfig: p.pulled.Config,
		Exports: exports, Set: r.set, Options: r.add, Grants: r.grants, Host: host,
		IDs: &unitgen.IDRange{First: ids.First, Count: ids.Count},
	}
	if in.Healthcheck, err = healthcheck(p.img.Config); err != nil {
		return nil, err
	}
	if r.from != nil {
		in.Previous = r.from.rec.Values
	}
	return in, nil
}

// healthcheck reads what only Docker's form of an image configuration has.
func healthcheck(config []byte) (*unitgen.Healthcheck, error) {
	var c struct {
		Config struct {
			Healthcheck *unitgen.Healthcheck `json:"Healthcheck"`
		} `json:"config"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, hint.New(fmt.Errorf("parse the image's health check: %w", err), "the image is malformed; nothing was installed")
	}
	return c.Config.Healthcheck, nil
}

// ParseSet reads the values of --set options: NAME=VALUE, split at the first "=".
func ParseSet(options []string) (map[string]string, error) {
	set := map[string]string{}
	for _, o := range options {
		k, v, ok := strings.Cut(o, "=")
		if !ok || k == "" {
			return nil, hint.New(fmt.Errorf("Invalid value '%s'.  Expected form NAME=VALUE", o), //nolint:staticcheck // the wording is part of the contract
				"for example --set ETCD_NAME="+strconv.Quote("one"))
		}
		set[k] = v
	}
	return set, nil
}

// Pull fetches an image into the store under its name, and returns that name
// and its digest.
func (a *Agent) Pull(ctx context.Context, src Source) (name, digest string, err error) {
	txn, err := a.transaction(ctx)
	if err != nil {
		return "", "", err
	}
	defer txn.Abort()
	pulled, img, err := a.fetch(ctx, txn, src)
	if err != nil {
		return "", "", err
	}
	if err := tag(txn, pulled, img); err != nil {
		return "", "", err
	}
	return pulled.Name, img.ManifestDigest, txn.Commit()
}
