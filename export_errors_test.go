package kafkax

// Unmark and IsRefused give the outside tests the two classifiers that only
// the loops use, and Meaningful what a dead letter names the type of.
var (
	Unmark     = unmark
	IsRefused  = isRefused
	Meaningful = meaningful
)
