package vtd

// OpenWithWriteBack is Open with another way to write cache lines back.
var OpenWithWriteBack = openUnit
