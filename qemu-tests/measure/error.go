package measure

import "errors"

var (
	// ErrMemory reports a Way with less memory than one mapping of the shape.
	ErrMemory = errors.New("too little memory to map")
	// ErrDry reports Maps that were refused for longer than a storm takes.
	ErrDry = errors.New("pools stay dry")
	// ErrPeer reports rows that there is nothing to compare with.
	ErrPeer = errors.New("no row of the peer")
)

// An Error is a failed measurement.
type Error struct {
	Op  string // what was measured or done
	Err error
}

func (e *Error) Error() string { return "measure: " + e.Op + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }
