// Package conformance is one suite of cases for VT-d units and for what drives
// them here: each case is written once and runs on every rung (the model, QEMU
// without a guest, a guest that owns the unit) and in every mode (legacy,
// scalable with second-stage and with first-stage tables) that can show it. Where one cannot,
// the result is a skip that says why.
//
// A rung takes part by a Place: it says what it is and opens a Rig, which is the unit's
// registers, memory, and two devices. All else (frames, driver, tables, what is
// expected) is the suite's.
//
// Run blocks for as long as its cases take. It may run at once for different
// places. A Rig is used by one goroutine at a time.
package conformance
