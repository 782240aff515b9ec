package respool

// RaceDetector is for the tests of package respool_test.
const RaceDetector = raceDetector
