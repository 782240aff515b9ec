//go:build linux

package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What a rung needs may take long to fetch: neither the time limit nor the time that is reported has it in.
func TestPerform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &report{}
		err := perform(t.Context(), r, func() (rungRun, error) {
			time.Sleep(2 * demoLimit)
			return func(ctx context.Context, _ *report) error {
				time.Sleep(7 * time.Millisecond)
				return ctx.Err()
			}, nil
		})
		if err != nil || r.ElapsedMS != 7 {
			t.Errorf("%v after %d ms, want no error after 7 ms", err, r.ElapsedMS)
		}
		err = perform(t.Context(), r, func() (rungRun, error) {
			return func(ctx context.Context, _ *report) error {
				<-ctx.Done()
				return ctx.Err()
			}, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || r.ElapsedMS != demoLimit.Milliseconds() {
			t.Errorf("%v after %d ms, want the time limit", err, r.ElapsedMS)
		}
	})
}
