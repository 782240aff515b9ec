package nosleep_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"gommu/internal/nosleep"
)

// TestCorpus runs over good and bad code for every rule: a directory of testdata/src for each.
func TestCorpus(t *testing.T) {
	dirs, err := os.ReadDir("testdata/src")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	analysistest.Run(t, analysistest.TestData(), nosleep.Analyzer, names...)
}

// TestTrusts lists what is taken on trust, and nothing else.
func TestTrusts(t *testing.T) {
	if err := nosleep.Analyzer.Flags.Set("trusts", "true"); err != nil {
		t.Fatal(err)
	}
	defer nosleep.Analyzer.Flags.Set("trusts", "false")
	analysistest.Run(t, filepath.Join(analysistest.TestData(), "trusts"), nosleep.Analyzer, "listed")
}
