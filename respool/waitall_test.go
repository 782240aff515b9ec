package respool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Whichever of its pools is closed, a call that waits learns of it at once: when it is the first in
// all lines, and when others are before it in the line of the other pool.
func TestCloseOfAnyPoolEndsWaiting(t *testing.T) {
	for name, behind := range map[string]bool{"first": false, "behind others": true} {
		for closed := range 2 {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					vs := []*vault{newVault(t), newVault(t)}
					ps := []*Pool[int]{open(t, vs[0], dry(2)), open(t, vs[1], dry(2))}
					es := get(t, ps[1-closed], 2) // the one that stays open lacks
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					before := make(chan error, 1)
					if behind {
						go func() { before <- ps[1-closed].Wait(ctx) }()
						synctest.Wait()
					}
					a, b := reserveNone(ps[0]), reserveNone(ps[1])
					limit, stop := context.WithTimeout(t.Context(), time.Hour)
					defer stop()
					done := make(chan error, 1)
					go func() { done <- ReserveAllWait(limit, a.Need(1), b.Need(1)) }()
					synctest.Wait()
					start := time.Now()
					end(t, ps[closed], vs[closed])
					if err := <-done; !errors.Is(err, ErrClosed) {
						t.Errorf("closed pool %d: %v", closed, err)
					}
					if took := time.Since(start); took != 0 {
						t.Errorf("closed pool %d: took %v", closed, took)
					}
					cancel()
					if behind {
						<-before
					}
					put(t, ps[1-closed], es...)
					end(t, ps[1-closed], vs[1-closed])
				})
			})
		}
	}
}
