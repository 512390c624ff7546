// SPDX-License-Identifier: Apache-2.0

package install

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/unitgen"
)

// optionsOf returns what the administrator has added to a container so far.
func optionsOf(rec *record.Record) unitgen.Options {
	o := rec.Atomic.Options
	if o == nil {
		return unitgen.Options{}
	}
	return unitgen.Options(*o)
}

// recordOptions is the record's form of the same: both have the same fields.
func recordOptions(o unitgen.Options) *record.Options {
	if reflect.ValueOf(o).IsZero() {
		return nil
	}
	r := record.Options(o)
	return &r
}

// addOptions joins additions: a later one takes the place of an earlier one
// for the same variable, destination or property. One command may give a
// property several times, as a unit file may.
func addOptions(old, o unitgen.Options) unitgen.Options {
	return unitgen.Options{
		Env:        latest(slices.Concat(old.Env, o.Env), envKey),
		Volumes:    latest(slices.Concat(old.Volumes, o.Volumes), unitgen.VolumeDestination),
		Publish:    latest(slices.Concat(old.Publish, o.Publish), strings.Clone),
		Properties: slices.Concat(withoutKeys(old.Properties, o.Properties, envKey), o.Properties),
		UserNS:     cmp.Or(o.UserNS, old.UserNS),
		Init:       cmp.Or(o.Init, old.Init),
		Isolation:  cmp.Or(o.Isolation, old.Isolation),
		Runtime:    cmp.Or(o.Runtime, old.Runtime),

		SurviveSoftReboot: cmp.Or(o.SurviveSoftReboot, old.SurviveSoftReboot),
		HealthOnFailure:   cmp.Or(o.HealthOnFailure, old.HealthOnFailure),
	}
}

func envKey(s string) string { k, _, _ := strings.Cut(s, "="); return k }

// latest keeps the last of those that have one key.
func latest(list []string, key func(string) string) []string {
	var kept []string
	for _, s := range list {
		kept = append(withoutKeys(kept, []string{s}, key), s)
	}
	return kept
}

// withoutKeys returns what of list has no key in common with others.
func withoutKeys(list, others []string, key func(string) string) []string {
	var kept []string
	for _, s := range list {
		if !slices.ContainsFunc(others, func(o string) bool { return key(o) == key(s) }) {
			kept = append(kept, s)
		}
	}
	return kept
}
