// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestAnswerControl(t *testing.T) {
	for name, tt := range map[string]struct {
		request, did, want string
		err                error
	}{
		"power off": {`{"method":"io.systemd.MachineInstance.PowerOff","parameters":{}}`, "StopUnit", `{"parameters":{}}`, nil},
		"terminate": {`{"method":"io.systemd.MachineInstance.Terminate"}`, "StopUnit", `{"parameters":{}}`, nil},
		"reboot":    {`{"method":"io.systemd.MachineInstance.Reboot"}`, "RestartUnit", `{"parameters":{}}`, nil},
		"pause":     {`{"method":"io.systemd.MachineInstance.Pause"}`, "FreezeUnit", `{"parameters":{}}`, nil},
		"resume":    {`{"method":"io.systemd.MachineInstance.Resume"}`, "ThawUnit", `{"parameters":{}}`, nil},
		"refused by systemd": {
			`{"method":"io.systemd.MachineInstance.Pause"}`, "FreezeUnit",
			`{"error":"io.systemd.System","parameters":{"errno":5,"errnoName":"EIO","message":"no","origin":"linux"}}`, errors.New("no"),
		},
		"another call": {
			`{"method":"io.systemd.MachineInstance.AddStorage"}`, "",
			`{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"io.systemd.MachineInstance.AddStorage"}}`, nil,
		},
		"no JSON": {`garbage`, "", `{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"method"}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var did string
			got, err := json.Marshal(answerControl([]byte(tt.request), func(m string) error { did = m; return tt.err }))
			if err != nil || string(got) != tt.want || did != tt.did {
				t.Errorf("did %q and answered %s, %v", did, got, err)
			}
		})
	}
}

func TestParseReplyInvalidParameter(t *testing.T) {
	err := parseReply([]byte(`{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"controlAddress"}}`), nil)
	var bad *parameterError
	if !errors.As(err, &bad) || bad.name != "controlAddress" {
		t.Errorf("got %v", err)
	}
}
