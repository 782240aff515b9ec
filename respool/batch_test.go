package respool

import (
	"context"
	"errors"
	"slices"
	"sort"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 5, Max: 5})
		es := make([]int, 3)
		if err := p.GetBatch(es); err != nil {
			t.Fatal(err)
		}
		rest := make([]int, 3)
		if err := p.GetBatch(rest); !errors.Is(err, ErrEmpty) || !slices.Equal(rest, make([]int, 3)) {
			t.Errorf("three of two: %v, %v", err, rest)
		}
		if err := p.GetBatch(rest[:2]); err != nil {
			t.Error(err)
		}
		all := append(slices.Clone(es), rest[:2]...)
		sort.Ints(all)
		if diff := cmp.Diff([]int{1, 2, 3, 4, 5}, all); diff != "" {
			t.Error(diff)
		}
		if err := p.GetBatch(nil); err != nil {
			t.Errorf("nothing of nothing: %v", err)
		}
		if err := p.PutBatch(make([]int, 6)); !errors.Is(err, ErrForeign) {
			t.Errorf("six of five: %v", err)
		}
		if err := p.PutBatch(es); err != nil {
			t.Error(err)
		}
		if err := p.PutBatch(es); !errors.Is(err, ErrForeign) {
			t.Errorf("three of two: %v", err)
		}
		if err := p.PutBatch(nil); err != nil {
			t.Errorf("nothing: %v", err)
		}
		want := Stats{Free: 3, InUse: 2, Gets: 5, Puts: 3, Empty: 1, Filled: 5}
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Error(diff)
		}
		again := get(t, p, 3)
		sort.Ints(again)
		sort.Ints(es)
		if diff := cmp.Diff(es, again); diff != "" {
			t.Errorf("put in a batch, got singly: %s", diff)
		}
		put(t, p, append(again, rest[:2]...)...)
		end(t, p, v)
		if err := p.GetBatch(es); !errors.Is(err, ErrClosed) {
			t.Errorf("GetBatch after Close: %v", err)
		}
		if err := p.PutBatch(es); !errors.Is(err, ErrClosed) {
			t.Errorf("PutBatch after Close: %v", err)
		}
	})
}

// Goroutines that are preempted inside GetBatch and PutBatch keep their slots and
// nothing else: the steps that they have done are done here by hand.
func TestSuspendedBatchDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 10, Max: 10})
		es := get(t, p, 5)
		inGet, inPut := make([]uint32, 3), make([]uint32, 4)
		n, left, _ := p.ready.popSlots(inGet, 3, 0, closing) // suspended before it reads the elements
		if n != 3 || left != 2 {
			t.Fatalf("%d popped, %d left", n, left)
		}
		p.blanks.getMany(inPut) // suspended before it pushes them
		buf := make([]int, 2)
		for range 1000 {
			if err := errors.Join(p.GetBatch(buf), p.PutBatch(buf)); err != nil {
				t.Fatal(err)
			}
			put(t, p, get(t, p, 2)...)
		}
		if err := p.GetBatch(make([]int, 3)); !errors.Is(err, ErrEmpty) {
			t.Errorf("three where two are ready: %v", err)
		}
		err := p.Close(ended())
		wantLeak(t, err, 8, context.Canceled)

		got := make([]int, 3)
		p.hand(got, inGet)
		p.debug.gotAll(got, Ordinary)
		if end := p.ready.pushSlots(inPut, sealed, &p.bound); end != flagged {
			t.Errorf("a batch came in after Close: %v", end)
		}
		p.clean(inPut)
		for i, e := range p.elems {
			if e != 0 {
				t.Errorf("slot %d still holds %d", i, e)
			}
		}
		checkSum(t, p)
		if s := p.Stats(); s.InUse != 8 || s.Puts != 4000 {
			t.Errorf("the refused PutBatch left a trace: %+v", s)
		}
		done := make(chan error)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		if err := errors.Join(p.PutBatch(got), p.PutBatch(es)); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// Batches shorter, as long and longer than the notes, of slots in any order.
func TestBatchLengths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 100, Max: 100})
		buf := make([]int, 100)
		for round := range 20 {
			for _, n := range []int{1, 31, 32, 33, 34, 65, 100} {
				if err := p.GetBatch(buf[:n]); err != nil {
					t.Fatal(err)
				}
				all := append(get(t, p, 100-n), buf[:n]...)
				slices.Sort(all)
				if all[0] != 1 || all[99] != 100 || len(slices.Compact(all)) != 100 {
					t.Fatalf("a batch of %d: lost or doubled: %v", n, all)
				}
				k := round * 5
				if err := errors.Join(p.PutBatch(all[k:]), p.PutBatch(all[:k])); err != nil {
					t.Fatal(err)
				}
				if got := len(p.readySlots()); got != 100 || p.Stats().Free != 100 {
					t.Fatalf("a batch of %d: %d are linked, %+v", n, got, p.Stats())
				}
			}
		}
		end(t, p, v)
	})
}
