// SPDX-License-Identifier: Apache-2.0

package tpm

// PredicateType is the in-toto predicate type of a start statement.
const PredicateType = "https://atomic-agent.github.io/start/v1"

// Start is the predicate of a start statement: what one start of a container
// is. It holds nothing that varies between starts of the same deployment, so
// that the register's value can be predicted and bound to.
type Start struct {
	Name      string         `json:"name"`
	Image     StartImage     `json:"image"`
	Rootfs    StartRootfs    `json:"rootfs"`
	Signature StartSignature `json:"signature"`
	// Config is the SHA-256 in hex of config.json as it is executed.
	Config string `json:"config"`
	// Unit are the unit's fragment and drop-ins in systemd's order.
	Unit []StartFile `json:"unit"`
	// Values is the SHA-256 in hex of the canonical JSON of the values.
	Values string     `json:"values"`
	Agent  StartAgent `json:"agent"`
}

// StartImage names the image; digests are "sha256:HEX".
type StartImage struct {
	Ref      string `json:"ref"`
	Manifest string `json:"manifest"`
	Index    string `json:"index,omitempty"`
	Config   string `json:"config"`
}

// StartRootfs identifies the root file system; Verity is the fs-verity digest
// of its EROFS image and Enforced says whether the kernel checks the objects.
type StartRootfs struct {
	Type     string `json:"type"`
	Verity   string `json:"verity"`
	Enforced bool   `json:"enforced"`
}

// StartSignature is the verdict of the signature policy at install.
type StartSignature struct {
	Verdict   string   `json:"verdict"`
	Keys      []string `json:"keys,omitempty"`
	Exception bool     `json:"exception,omitempty"`
	Policy    string   `json:"policy,omitempty"`
}

// StartFile is a file and the SHA-256 of its content in hex.
type StartFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// StartAgent identifies the launcher by version and by the SHA-256 in hex of
// its executable.
type StartAgent struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}
