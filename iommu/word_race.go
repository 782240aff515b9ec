//go:build race

package iommu

import "sync/atomic"

// word is what the race detector can follow of the other one.
type word struct{ v atomic.Uint64 }

func (w *word) set(v uint64) { w.v.Store(v) }

func (w *word) add(v uint64) { w.v.Add(v) }

func (w *word) get() uint64 { return w.v.Load() }

// edge is likewise.
type edge struct{ atomic.Uint64 }

func (e *edge) set(v uint64) { e.Store(v) }
