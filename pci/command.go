package pci

import "fmt"

// Bits of the command register.
const (
	commandIO      = 1 << 0
	commandMemory  = 1 << 1
	commandMaster  = 1 << 2
	commandINTxOff = 1 << 10
)

// SetBusMaster lets the function start DMA and message signalled interrupts, or forbids it.
// It reports the state before.
func SetBusMaster(cfg Config, on bool) (was bool, err error) {
	return setCommand(cfg, "set bus master", commandMaster, on)
}

// SetMemoryDecode lets the function answer accesses to its memory BARs, or forbids it. It
// reports the state before.
func SetMemoryDecode(cfg Config, on bool) (was bool, err error) {
	return setCommand(cfg, "set memory decoding", commandMemory, on)
}

// SetINTxDisable forbids the function its interrupt pin, or lets it. It reports the state
// before.
func SetINTxDisable(cfg Config, off bool) (was bool, err error) {
	return setCommand(cfg, "set INTx disable", commandINTxOff, off)
}

// setCommand sets or clears one bit of the command register, and writes nothing if it is
// so already. It checks that the bit took: in a function that lacks it, it does not.
func setCommand(cfg Config, op string, bit uint32, on bool) (bool, error) {
	fail := func(err error) (bool, error) { return false, &OpError{Op: op, Target: "command register", Err: err} }
	v, err := cfg.Read(regCommand, 2)
	if err != nil {
		return fail(err)
	}
	if v == 0xffff {
		return fail(ErrNoAnswer)
	}
	was := v&bit != 0
	if was == on {
		return was, nil
	}
	if err := cfg.Write(regCommand, 2, v^bit); err != nil {
		return fail(err)
	}
	now, err := cfg.Read(regCommand, 2)
	if err != nil {
		return fail(err)
	}
	if (now&bit != 0) != on {
		return fail(fmt.Errorf("%w: it did not take the value %#04x, it reads %#04x", ErrBadConfig, v^bit, now))
	}
	return was, nil
}
