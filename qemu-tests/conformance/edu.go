package conformance

import (
	"context"

	"gommu/vfio/edu"
)

// EduDevice is an edu device as cases use it. It does not own it.
func EduDevice(d *edu.Device, source uint16) Device { return eduDevice{d, source} }

type eduDevice struct {
	d      *edu.Device
	source uint16
}

func (d eduDevice) Source() uint16 { return d.source }

func (d eduDevice) Read(ctx context.Context, iova uint64, n int) error {
	return d.d.ReadMemory(ctx, iova, 0, n)
}

func (d eduDevice) Write(ctx context.Context, iova uint64, n int) error {
	return d.d.WriteMemory(ctx, iova, 0, n)
}
