package provision

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Event says what Setup is doing and how far it is. The events of one step follow each other.
type Event struct {
	Step  string // such as "download QEMU 7.2"; the same for all events of a step
	Done  int64  // bytes done
	Total int64  // bytes to do; 0: not known
}

// Display returns a Progress function that shows events on w: a bar a step on a terminal, else a line a step.
func Display(w io.Writer) func(Event) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return bars(w)
	}
	var step string
	return func(e Event) {
		if e.Step == step {
			return
		}
		step = e.Step
		if e.Total > 0 {
			fmt.Fprintf(w, "%s (%s)\n", e.Step, bytesText(e.Total))
			return
		}
		fmt.Fprintln(w, e.Step)
	}
}

// bars shows each step as a bar, or as a spinner while its size is not known. A step is over when the next begins, or
// when all of its bytes are done.
func bars(w io.Writer) func(Event) {
	var step string
	var bar *progressbar.ProgressBar
	return func(e Event) {
		if e.Step != step {
			if bar != nil && !bar.IsFinished() {
				fmt.Fprintln(w)
			}
			step, bar = e.Step, newBar(w, e)
		}
		if !bar.IsFinished() {
			_ = bar.Set64(e.Done) // a display that cannot be written is no reason to stop
		}
	}
}

func newBar(w io.Writer, e Event) *progressbar.ProgressBar {
	total := e.Total
	if total == 0 {
		total = -1
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(e.Step),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionSetSpinnerChangeInterval(0), // else a goroutine turns it for ever
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }))
}

// bytesText writes a number of bytes for people: "43 MB", or "812 kB" below a megabyte.
func bytesText(n int64) string {
	if n < 1e6 {
		return strconv.FormatInt((n+999)/1000, 10) + " kB"
	}
	return strconv.FormatInt((n+5e5)/1e6, 10) + " MB"
}
