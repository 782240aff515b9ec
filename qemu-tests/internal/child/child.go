// Package child runs a program as a part of this process: it has files of this
// process handed to it, the end of what it writes is kept, and it dies with this
// process, however that ends. The machines of qtest and vm are such children.
//
// A Process owns one goroutine, which keeps a thread of its own until the program has ended.
// Start returns when the program runs. All methods may be called from several
// goroutines at once and do not block. Linux only; elsewhere everything fails with
// errors.ErrUnsupported.
package child

import (
	"bytes"
	"sync"
)

// A Process is a program that was started.
type Process struct {
	pid  int
	done chan struct{}
	err  error
}

// Done is closed when the program has ended and all that it wrote was taken.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended, as of exec.Cmd.Wait. It is valid once Done is closed.
func (p *Process) Err() error { return p.err }

// A Tail keeps the last bytes written to it: at least Limit of them, at most twice as
// many. Any number of goroutines may write.
type Tail struct {
	Limit int
	mu    sync.Mutex
	buf   []byte
}

func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.Limit; over > t.Limit {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// Bytes returns a copy of the last Limit bytes.
func (t *Tail) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf[max(0, len(t.buf)-t.Limit):])
}
