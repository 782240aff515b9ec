//go:build linux

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// benchSteps show how far a measurement is: a bar for each part of it on a terminal, a line for each step
// elsewhere.
type benchSteps struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	part     string
}

func newBenchSteps(w io.Writer) *benchSteps {
	f, ok := w.(*os.File)
	return &benchSteps{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// of is what a part calls before each step.
func (s *benchSteps) of(part string) func(done, of int, what string) {
	return func(done, of int, what string) {
		if !s.terminal {
			fmt.Fprintf(s.w, "%s %d/%d: %s\n", part, done+1, of, what)
			return
		}
		if s.part != part {
			s.end()
			s.part = part
			s.bar = progressbar.NewOptions(of, progressbar.OptionSetWriter(s.w), progressbar.OptionSetWidth(24),
				progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
		s.bar.Describe(fmt.Sprintf("%s: %-50s", part, what))
		_ = s.bar.Set(done) // a display that cannot be written is no reason to stop
	}
}

// say tells of something that takes a while and has no benchSteps.
func (s *benchSteps) say(format string, args ...any) {
	s.end()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// end takes the bar away.
func (s *benchSteps) end() {
	if s.bar != nil {
		_ = s.bar.Finish()
		s.bar, s.part = nil, ""
	}
}
