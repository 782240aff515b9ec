//go:build race

package respool

const raceDetector = true
