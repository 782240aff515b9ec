//go:build linux

package main

import (
	"context"
	"errors"

	"gommu/internal/cacheline"
	"gommu/iommu/model"
	"gommu/pci"
)

// demoModel runs the demonstration on the model of a unit that is in this
// process. The unit does not snoop: what is not written back from the caches it
// does not see.
func demoModel(ctx context.Context, r *report) (err error) {
	s := &unitStage{ram: make([]byte, unitRAM), at: pci.Address{Device: 3}}
	u, err := model.New(model.Config{RAM: s.ram})
	if err != nil {
		return err
	}
	defer cacheline.Watch(u.Flushed)()
	s.device = &modelEngine{device: u.Device(s.at.RequesterID())}
	defer func() { err = errors.Join(err, s.close(r)) }()
	if err := s.open(ctx, u, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r}
	return demo.run(ctx)
}

// A modelEngine is a device of the model with a buffer. As on a bus, it does not
// learn that its access was blocked.
type modelEngine struct {
	device *model.Device
	buffer [pageSize]byte
}

func (e *modelEngine) ReadMemory(ctx context.Context, iova uint64, off, n int) error {
	return e.finish(ctx, e.device.Read(iova, e.buffer[off:][:n]))
}

func (e *modelEngine) WriteMemory(ctx context.Context, iova uint64, off, n int) error {
	return e.finish(ctx, e.device.Write(iova, e.buffer[off:][:n]))
}

func (e *modelEngine) finish(ctx context.Context, err error) error {
	if errors.Is(err, model.ErrBlocked) {
		err = nil
	}
	return errors.Join(err, ctx.Err())
}
