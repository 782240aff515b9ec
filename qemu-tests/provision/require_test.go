package provision

import "testing"

// A verdictTB records whether Require skipped or failed.
type verdictTB struct {
	testing.TB
	verdict string
}

func (v *verdictTB) Helper()               {}
func (v *verdictTB) Skip(...any)           { v.verdict = "skip" }
func (v *verdictTB) Fatalf(string, ...any) { v.verdict = "fail" }

func TestRequire(t *testing.T) {
	t.Setenv("GOMMU_QEMU", "/none/qemu")
	for _, c := range []struct{ require, ci, want string }{
		{"", "", "skip"}, {"qtest", "", "skip"}, {"vm", "", "fail"}, {"qtest, vm", "", "fail"}, {"", "true", "fail"}, {"vmx", "false", "skip"},
	} {
		t.Setenv("GOMMU_REQUIRE", c.require)
		t.Setenv("CI", c.ci)
		v := &verdictTB{TB: t}
		Require(v, "vm", Options{})
		if v.verdict != c.want {
			t.Errorf("GOMMU_REQUIRE=%q CI=%q: %q, want %q", c.require, c.ci, v.verdict, c.want)
		}
	}
}
