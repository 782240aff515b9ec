package source

import (
	"context"
	"errors"
	"testing"

	"gommu/respool"
)

var errTest = errors.New("out of order")

func TestValues(t *testing.T) {
	live, fail := 0, false
	v := Values[*int]{
		New: func() (*int, error) {
			if fail {
				return nil, errTest
			}
			live++
			return new(int), nil
		},
		Dispose: func(*int) error {
			if fail {
				return errTest
			}
			live--
			return nil
		},
	}
	pool, err := respool.New(context.Background(), v, respool.Options{Min: 3, Low: 1, High: 1})
	if err != nil {
		t.Fatal(err)
	}
	if live != 3 {
		t.Errorf("%d values for a pool of 3", live)
	}
	if err := pool.Close(context.Background()); err != nil || live != 0 {
		t.Errorf("Close: %v, %d values left", err, live)
	}
	fail = true
	if _, err := v.Alloc(context.Background()); err != errTest {
		t.Errorf("Alloc: %v", err)
	}
	if err := v.Free(new(int)); err != errTest {
		t.Errorf("Free: %v", err)
	}
}

func TestValuesContext(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	v := Values[int]{New: func() (int, error) { t.Error("New was called"); return 0, nil }}
	if _, err := v.Alloc(ended); err != context.Canceled {
		t.Errorf("Alloc: %v", err)
	}
}

func TestValuesZero(t *testing.T) {
	var v Values[[2]int]
	e, err := v.Alloc(context.Background())
	if err != nil || e != [2]int{} {
		t.Errorf("Alloc: %v, %v", e, err)
	}
	if err := v.Free(e); err != nil {
		t.Errorf("Free: %v", err)
	}
}

func TestValuesPoison(t *testing.T) {
	e := 1
	v := Values[*int]{Spoil: func(e *int) { *e = -*e }}
	v.Poison(&e)
	if err := v.Check(&e); err != nil || e != 1 {
		t.Errorf("Spoil without Restore: %v, %d", err, e)
	}
	v.Restore = func(e *int) error {
		if *e = -*e; *e != 1 {
			return errTest
		}
		return nil
	}
	f := &Faulty[*int]{Source: v}
	f.Poison(&e)
	if e != -1 {
		t.Errorf("not spoilt: %d", e)
	}
	if err := f.Check(&e); err != nil || e != 1 {
		t.Errorf("Check: %v, %d", err, e)
	}
	f.Poison(&e)
	e = -2
	if err := f.Check(&e); err != errTest {
		t.Errorf("Check after a write: %v", err)
	}
}
