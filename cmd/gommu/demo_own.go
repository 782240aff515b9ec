//go:build linux

package main

import (
	"context"
	"errors"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
)

// demoModel runs the demonstration on the model of a unit that is in this
// process. The unit does not snoop: what is not written back from the caches it
// does not see.
func demoModel(ctx context.Context, r *report) error { return demoOwn(ctx, "model", rung.Options{}, r) }

// qtestDemo says how to run the demonstration on QEMU without a guest.
type qtestDemo struct {
	qemu          provision.QEMU
	beforeRequest func(n int, command string) error // fault injection for tests
}

// demoQtest runs the demonstration on QEMU's VT-d through tables that this
// process writes.
func demoQtest(ctx context.Context, d qtestDemo, r *report) error {
	r.QEMU = d.qemu.Version
	return demoOwn(ctx, "qtest", rung.Options{QEMU: d.qemu, BeforeRequest: d.beforeRequest}, r)
}

// demoOwn runs the demonstration on a rung whose unit is ours.
func demoOwn(ctx context.Context, name string, o rung.Options, r *report) (err error) {
	s := &stage{}
	defer func() { err = errors.Join(err, s.close(r)) }()
	if err := s.open(ctx, name, o, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r}
	return demo.run(ctx)
}
