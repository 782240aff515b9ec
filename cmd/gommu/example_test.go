//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gommu/internal/held"
	"gommu/qemu-tests/conformance"
)

// TestExample: on each rung and in each mode what the example's walk says is what the table
// says, and nothing is left behind, whether what looks at it fails or not.
func TestExample(t *testing.T) {
	for _, on := range []string{onModel, onQtest} {
		for _, m := range conformance.Modes {
			t.Run(on+"/"+string(m), func(t *testing.T) {
				if on == onQtest {
					qemus(t)
				}
				o := exampleOptions{on, string(m)}
				look := func(fails error) error {
					return withExample(t.Context(), o, func(e *example) error {
						checkWalks(t, e)
						return fails
					})
				}
				err := look(nil) // what the runtime opens for itself and keeps, it has now
				var why conformance.Unavailable
				if errors.As(err, &why) {
					t.Skip(why)
				}
				if err != nil {
					t.Fatal(err)
				}
				before := held.Now(t)
				if err := look(errInjected); !errors.Is(err, errInjected) || errors.Is(err, errLeaked) {
					t.Errorf("error %v, want the injected one", err)
				}
				held.Check(t, before)
			})
		}
	}
}

// checkWalks walks to both ends of each mapping, and to the pages beside it.
func checkWalks(t *testing.T, e *example) {
	t.Helper()
	for _, m := range exampleMappings {
		for _, iova := range []uint64{m.iova, m.iova + m.size - 1, m.iova - 1, m.iova + m.size} {
			w := walk{mem: e.mem, regs: e.rig.Registers(), source: e.source, iova: iova, mode: e.place.Mode}
			w.run()
			want := "not present: DMA is blocked\n"
			if l, ok := e.table.Lookup(iova); ok {
				want = fmt.Sprintf("is bus %#x\n", l.Bus+iova-l.IOVA)
			}
			if !strings.HasSuffix(w.text.String(), want) {
				t.Errorf("%#x: the walk says\n%s, want %q", iova, &w.text, want)
			}
		}
	}
}

// TestWalkAstray: a walk that leads out of the table memory says so and ends.
func TestWalkAstray(t *testing.T) {
	for _, m := range conformance.Modes {
		err := withExample(t.Context(), exampleOptions{onModel, string(m)}, func(e *example) error {
			last := e.mem.Entries(e.table.Root())
			saved := last[0]
			defer func() { last[0] = saved }()
			last[0] |= 1 << 40
			w := walk{mem: e.mem, regs: e.rig.Registers(), source: e.source, iova: 0x1000, mode: m}
			w.run()
			if !strings.HasSuffix(w.text.String(), "is not in the table memory: the unit cannot read it\n") {
				t.Errorf("%s: the walk says\n%s", m, &w.text)
			}
			// Another device has no entry.
			w = walk{mem: e.mem, regs: e.rig.Registers(), source: 0x0108, iova: 0x1000, mode: m}
			w.run()
			if !strings.HasSuffix(w.text.String(), ": not present: DMA is blocked\n") {
				t.Errorf("%s: the walk of another device says\n%s", m, &w.text)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
