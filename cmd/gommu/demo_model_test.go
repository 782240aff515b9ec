//go:build linux

package main

import (
	"context"
	"errors"
	"testing"

	"gommu/internal/held"
)

func TestDemoModel(t *testing.T) {
	before := held.Now(t)
	r := &report{Rung: "model"}
	r.finish(demoModel(t.Context(), r))
	checkReport(t, r)
	if r.StaleReached == nil || !*r.StaleReached {
		t.Error("the unmapped page was not reachable before its invalidation: the test of the invalidation proves nothing")
	}
	held.Check(t, before)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := demoModel(ctx, &report{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	held.Check(t, before)
}

// Without --on the demonstration needs nothing; naming a device asks for VFIO.
func TestChooseRung(t *testing.T) {
	for _, tt := range []struct {
		opts demoOptions
		want string
		err  error
	}{
		{demoOptions{}, "model", nil},
		{demoOptions{device: "0000:00:03.0"}, "vfio", nil},
		{demoOptions{on: "qtest"}, "qtest", nil},
		{demoOptions{on: "model", device: "0000:00:03.0"}, "", errForVFIO},
		{demoOptions{dmaMask: 1}, "", errForVFIO},
		{demoOptions{on: "tin"}, "", errRung},
	} {
		opts := tt.opts
		r := &report{}
		if err := chooseRung(&opts, r); !errors.Is(err, tt.err) || err == nil && opts.on != tt.want {
			t.Errorf("%+v: rung %q, error %v", tt.opts, opts.on, err)
		}
	}
}
