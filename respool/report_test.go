package respool

import "testing"

// A report reads as a sentence, whatever is in it.
func TestReportText(t *testing.T) {
	for want, r := range map[string]Report{
		`respool "p": int(7): not put back`:                                          {Kind: Leaked, Pool: "p", Element: "int(7)", Count: 1},
		`respool "p": 3 elements, one is int(7): not put back`:                       {Kind: Leaked, Pool: "p", Element: "int(7)", Count: 3},
		`respool: 3 elements: not put back: in a cache`:                              {Kind: Leaked, Count: 3, Detail: "in a cache"},
		`respool: not put back: in a reservation`:                                    {Kind: Leaked, Count: 1, Detail: "in a reservation"},
		`respool: who holds elements waits for more, in a circle: "a" -> "b" -> "a"`: {Kind: PoolCycle, Detail: `"a" -> "b" -> "a"`},
		`respool: int(7): held longer than HoldLimit, out for 1s`:                    {Kind: HeldLong, Element: "int(7)", Count: 1, Held: 1e9},
		"respool: kind 99\ngot by goroutine 5:\nf\n\tf.go:1":                         {Kind: 99, Stacks: []Stack{{"got", 5, "f\n\tf.go:1\n"}}},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
