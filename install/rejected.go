// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/hint"
)

// rejectedFile is in the directory of the deployment that was kept: the digest
// of the manifest that was tried in its place and rolled back. It goes with the
// deployment, so that whatever replaces it is judged afresh.
const rejectedFile = "rejected"

// reject remembers an image whose service did not pass the gate.
func (a *Agent) reject(d *deployment, digest string) {
	file := filepath.Join(d.dir(), rejectedFile)
	if err := atomicfile.Replace(file, []byte(digest+"\n"), atomicfile.Attr{Mode: 0o600}); err != nil {
		a.say("Warning: an automatic update will try this version again: %v", err)
	}
}

// checkRejected refuses an image that was rolled back: nobody who could look
// after it is there, and every attempt interrupts the service.
func (a *Agent) checkRejected(d *deployment, digest string) error {
	data, err := os.ReadFile(filepath.Join(d.dir(), rejectedFile))
	if err != nil || strings.TrimSpace(string(data)) != digest {
		return nil //nolint:nilerr // nothing is known against it
	}
	return hint.New(fmt.Errorf("image %s was rolled back before", digest), "to try it again: atomic containers update "+d.name)
}
