package provision

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Require is Find for a test. If something is missing, the test is skipped and says what to do about it. It
// fails instead where the environment says that the rung must be there: GOMMU_REQUIRE is a list, separated by commas, that
// has it ("qtest,vm"), or CI is "true".
func Require(t testing.TB, rung string, opts Options) Installed {
	t.Helper()
	in, err := Find(opts)
	switch {
	case err == nil:
	case required(rung):
		t.Fatalf("GOMMU_REQUIRE or CI wants the rung %s: %v", rung, err)
	default:
		t.Skip(err)
	}
	return in
}

func required(rung string) bool {
	listed := strings.FieldsFunc(os.Getenv("GOMMU_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	return os.Getenv("CI") == "true" || slices.Contains(listed, rung)
}
