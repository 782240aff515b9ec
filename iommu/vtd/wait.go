package vtd

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// A poll paces a loop that waits for the unit and ends it in time.
type poll struct {
	ctx      context.Context
	limit    time.Duration
	deadline time.Time
	rounds   int
}

// Rounds of a poll that spin, and after these, that only yield.
const (
	spinRounds  = 64
	yieldRounds = 1024
	pollSleep   = 20 * time.Microsecond
)

func (u *Unit) poll(ctx context.Context) poll {
	return poll{ctx: ctx, limit: u.opts.Timeout, deadline: time.Now().Add(u.opts.Timeout)}
}

// pause waits a little. It fails when ctx has ended or the time is over.
func (p *poll) pause() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if time.Now().After(p.deadline) {
		return fmt.Errorf("%w (%v)", ErrTimeout, p.limit)
	}
	p.rounds++
	switch {
	case p.rounds < spinRounds:
	case p.rounds < yieldRounds:
		runtime.Gosched()
	default:
		time.Sleep(pollSleep)
	}
	return nil
}

// wait32 waits until the masked bits of a 4-byte register are want.
func (u *Unit) wait32(ctx context.Context, name string, off uint64, mask, want uint32) error {
	p := u.poll(ctx)
	for {
		v := u.regs.Read32(off)
		if v == gone32 {
			return ErrGone
		}
		if v&mask == want {
			return nil
		}
		if err := p.pause(); err != nil {
			return fmt.Errorf("%s is %#x, waiting for bits %#x to be %#x: %w", name, v, mask, want, err)
		}
	}
}

// wait64 waits until a bit of an 8-byte register is clear and returns the
// register's value then.
func (u *Unit) wait64(ctx context.Context, name string, off, bit uint64) (uint64, error) {
	p := u.poll(ctx)
	for {
		v := u.regs.Read64(off)
		if v == gone64 {
			return v, ErrGone
		}
		if v&bit == 0 {
			return v, nil
		}
		if err := p.pause(); err != nil {
			return v, fmt.Errorf("%s is %#x, waiting for bit %#x to clear: %w", name, v, bit, err)
		}
	}
}
