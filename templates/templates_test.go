// SPDX-License-Identifier: Apache-2.0

package templates_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/templates"
)

// The templates are rendered for every image that lacks its own, so they may
// use no variable that needs a value. What they render to is pinned by
// unitgen's golden case plain-image.
func TestVariables(t *testing.T) {
	builtin := []string{"NAME", "IMAGE_NAME", "EXEC_START", "EXEC_STOP", "DESTDIR"}
	for _, m := range regexp.MustCompile(`\$\{?(\w*)`).FindAllSubmatch(slices.Concat(templates.Service, templates.Config), -1) {
		if !slices.Contains(builtin, string(m[1])) {
			t.Errorf("variable %q is not built in", m[1])
		}
	}
}

func TestConfig(t *testing.T) {
	dec := json.NewDecoder(bytes.NewReader(templates.Config))
	dec.DisallowUnknownFields()
	var spec rspec.Spec
	if err := dec.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	if !spec.Root.Readonly || spec.Root.Path != "rootfs" || !spec.Process.NoNewPrivileges {
		t.Error("the default configuration is not hardened")
	}
}
