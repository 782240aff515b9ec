package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// An Outcome is how a case ended.
type Outcome string

const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// A Result is a case's outcome in one place.
type Result struct {
	Case    string  `json:"case"`
	Rung    string  `json:"rung"`
	Mode    Mode    `json:"mode"`
	QEMU    string  `json:"qemu"` // version, empty without one
	Outcome Outcome `json:"result"`
	Why     string  `json:"why"` // of a fail or a skip
	MS      float64 `json:"ms"`
}

// caseLimit turns a case that hangs into one that fails.
const caseLimit = 2 * time.Minute

// Run runs the cases in a place, one after the other, and tells report of each
// as it ends. It returns early, with ctx's error, if that ends.
func Run(ctx context.Context, p Place, cases []Case, report func(Result)) error {
	r := runner{place: p}
	defer r.drop()
	for _, c := range cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		report(r.result(ctx, c))
	}
	return r.drop()
}

// A runner keeps a rig between cases.
type runner struct {
	place   Place
	rig     Rig
	variant Variant
	refused map[Variant]error // variants that could not be opened
}

func (r *runner) result(ctx context.Context, c Case) Result {
	started := time.Now()
	res := Result{Case: c.Name, Rung: r.place.Rung, Mode: r.place.Mode, QEMU: r.place.QEMU, Outcome: Pass}
	err := r.one(ctx, c)
	if why, ok := err.(Unavailable); ok {
		res.Outcome, res.Why = Skip, string(why)
	} else if err != nil {
		res.Outcome, res.Why = Fail, strings.TrimSpace(err.Error())
		// What it left behind must not fail the next one.
		if err := r.drop(); err != nil {
			res.Why += "; closing: " + err.Error()
		}
	}
	res.MS = float64(time.Since(started).Microseconds()) / 1000
	return res
}

// one runs a case on the rig that it wants.
func (r *runner) one(ctx context.Context, c Case) error {
	ctx, cancel := context.WithTimeout(ctx, caseLimit)
	defer cancel()
	if !c.runsIn(r.place.Mode) {
		return Unavailable(fmt.Sprintf("only in mode %s", strings.Join(modeNames(c.modes), " or ")))
	}
	if why := r.lacks(c); why != "" { // no matter in which variant
		return Unavailable(why)
	}
	if err := r.open(ctx, c.variant); err != nil {
		return err
	}
	if why := r.lacks(c); why != "" {
		return Unavailable(why)
	}
	b, err := newBench(ctx, r.rig, r.place.Mode)
	if err != nil {
		return err
	}
	err = b.perform(c)
	if closing := b.close(); closing != nil {
		return errors.Join(err, closing)
	}
	return err
}

// lacks says why the open rig cannot show the case.
func (r *runner) lacks(c Case) string {
	if r.rig == nil {
		return ""
	}
	return r.rig.Traits().Lacks[c.needs]
}

// open sees to it that a rig of the variant is open.
func (r *runner) open(ctx context.Context, v Variant) error {
	if r.rig != nil && r.variant == v {
		return nil
	}
	if err := r.refused[v]; err != nil {
		return err
	}
	if err := r.drop(); err != nil {
		return err
	}
	rig, err := r.place.Open(ctx, v)
	if err != nil {
		if why, ok := errors.AsType[Unavailable](err); ok {
			if r.refused == nil {
				r.refused = make(map[Variant]error)
			}
			r.refused[v] = why
			return why
		}
		return fmt.Errorf("opening the rig: %w", err)
	}
	r.rig, r.variant = rig, v
	return nil
}

// drop closes the rig.
func (r *runner) drop() error {
	if r.rig == nil {
		return nil
	}
	err := r.rig.Close()
	r.rig = nil
	return err
}
