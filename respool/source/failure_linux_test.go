package source

import (
	"errors"
	"syscall"
	"testing"
)

// use is everything a source can go through. It returns the first error and gives
// everything back.
func use(t *testing.T, m memory, n int) error {
	t.Helper()
	var bs []Block
	var failed error
	for i := range n {
		before := m.Stats()
		b, err := m.Alloc(ctx)
		if err != nil {
			if failed == nil {
				failed = err
			}
			if m.Stats() != before {
				t.Errorf("a failed Alloc changed %+v to %+v", before, m.Stats())
			}
			continue
		}
		paint(t, m.Bytes(b), byte(i+1))
		bs = append(bs, b)
	}
	for _, b := range bs {
		if err := m.Free(b); err != nil {
			t.Errorf("Free: %v", err)
		}
	}
	if s := m.Stats(); s.Out != 0 {
		t.Errorf("everything is back, and yet %+v", s)
	}
	if err := m.Close(); err != nil {
		if failed == nil {
			failed = err
		}
		if err := m.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
	}
	return failed
}

// failEach runs use with the Nth system call failing, for every N, and once with all of them well.
func failEach(t *testing.T, open func(*probe) memory, n int, hidden map[string]bool) {
	t.Helper()
	for nth := 1; ; nth++ {
		before := mappings(t)
		failed := ""
		p := &probe{fail: func(call int, name string) error {
			if call != nth {
				return nil
			}
			failed = name
			return syscall.ENOMEM
		}}
		err := use(t, open(p), n)
		switch {
		case failed == "" && err != nil:
			t.Fatalf("nothing failed: %v", err)
		case failed != "" && !hidden[failed] && (!errors.Is(err, syscall.ENOMEM) || !errors.Is(err, ErrNoMemory)):
			t.Errorf("call %d, %s, failed: %v", nth, failed, err)
		case hidden[failed] && err != nil:
			t.Errorf("call %d, %s, failed, which nobody needs to know: %v", nth, failed, err)
		}
		if n := mappings(t); n != before {
			t.Errorf("call %d, %s, failed: %d mappings, were %d", nth, failed, n, before)
		}
		if failed == "" {
			if nth < 5 {
				t.Errorf("only %d calls", nth-1)
			}
			return
		}
	}
}

func TestPagesFailNth(t *testing.T) {
	failEach(t, func(p *probe) memory { return openPages(t, p, PagesOptions{Chunk: 2 * page}) }, 5, map[string]bool{"munmap": true})
}

// A chunk that the kernel does not unmap loses no block, and Close says so.
func TestPagesUnmapFails(t *testing.T) {
	noLeak(t)
	p := &probe{}
	m := openPages(t, p, PagesOptions{Chunk: page})
	b := alloc(t, m)
	mem := m.Bytes(b)
	paint(t, mem, 7)
	p.fail = func(int, string) error { return syscall.ENOMEM }
	free(t, m, b)
	if s := m.Stats(); s.Out != 0 || s.Mapped != page {
		t.Errorf("after munmap failed: %+v", s)
	}
	b = alloc(t, m) // needs no system call
	paint(t, m.Bytes(b), 8)
	free(t, m, b)
	if err := m.Close(); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("Close: %v", err)
	}
	p.fail = nil
	if err := m.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// The pages are brought in on kernels that cannot be asked to, and after a signal.
func TestPagesPopulate(t *testing.T) {
	for _, errno := range []syscall.Errno{0, syscall.EINVAL, syscall.ENOSYS, syscall.EINTR} {
		noLeak(t)
		asked := 0
		p := &probe{fail: func(_ int, name string) error {
			if name != "populate" {
				return nil
			}
			asked++
			if errno == 0 || asked > 1 && errno == syscall.EINTR {
				return nil
			}
			return errno
		}}
		m := openPages(t, p, PagesOptions{Chunk: 4 * page})
		b := alloc(t, m)
		if got := smaps(t, "Rss", address(m.Bytes(b))); got != 4*page>>10 {
			t.Errorf("%v: %d kB of 4 pages are present", errno, got)
		}
		if want := 1; errno == syscall.EINTR && asked != want+1 || errno != syscall.EINTR && asked != want {
			t.Errorf("%v: asked %d times", errno, asked)
		}
		paint(t, m.Bytes(b), 1)
		free(t, m, b)
		end(t, m)
	}
}
