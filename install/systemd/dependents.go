// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"fmt"
	"slices"
)

// stoppedWith are the unit properties that name the units which stop with a
// unit: systemd.unit(5) on Requires=, BindsTo= and PartOf=.
var stoppedWith = []string{"RequiredBy", "BoundBy", "ConsistsOf"}

// Dependents returns the running units that stop when the unit is stopped,
// sorted. systemd starts them again if the unit is restarted in one job, but
// not after a stop and a start.
func (m *Manager) Dependents(ctx context.Context, unit string) ([]string, error) {
	if !m.live {
		return nil, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for todo := []string{unit}; len(todo) > 0; todo = todo[1:] {
		for _, property := range stoppedWith {
			p, err := c.GetUnitPropertyContext(ctx, todo[0], property)
			if err != nil {
				return nil, fmt.Errorf("list what stops with %s: %w", todo[0], err)
			}
			names, _ := p.Value.Value().([]string)
			for _, name := range names {
				if name != unit && !slices.Contains(found, name) {
					found = append(found, name)
					todo = append(todo, name)
				}
			}
		}
	}
	states, err := m.States(ctx, found)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(name string) bool { return !states[name].Running() })
	slices.Sort(found)
	return found, nil
}
