package edu

import (
	"errors"
	"fmt"
)

var (
	// ErrNotEdu reports a function that is no edu device.
	ErrNotEdu = errors.New("not an edu device")
	// ErrNotAlive reports a device that fails its liveness check.
	ErrNotAlive = errors.New("device does not answer its liveness check")
	// ErrGone reports a device whose registers read as all ones.
	ErrGone = errors.New("device is gone (its registers read as all ones)")
	// ErrBuffer reports a transfer that is empty or leaves the device's buffer.
	ErrBuffer = errors.New("transfer does not fit the device's buffer")
	// ErrMask reports IOVAs beyond the device's DMA mask.
	ErrMask = errors.New("iova is beyond the device's DMA mask")
	// ErrBusy reports that a transfer is under way.
	ErrBusy = errors.New("device is busy with a transfer")
	// ErrNoInterrupt reports a transfer that was done without the interrupt
	// that was asked for arriving.
	ErrNoInterrupt = errors.New("transfer is done but no interrupt arrived")
	// ErrClosed reports a device that was closed.
	ErrClosed = errors.New("device is closed")
)

// An OpError is the error of this package.
type OpError struct {
	Op     string // "open", "read memory", "write memory", …
	IOVA   uint64 // of a transfer, as Offset and Size are
	Offset int    // in the device's buffer
	Size   int    // bytes; 0 for operations other than transfers
	Err    error
}

func (e *OpError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("edu: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("edu: %s iova %#x size %d buffer offset %d: %v", e.Op, e.IOVA, e.Size, e.Offset, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }
