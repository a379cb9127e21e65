package history

// checkValues compares what was delivered with the logs, and one delivery with
// another.
func (c *checker) checkValues() {
	first := map[position]Delivery{}
	for _, e := range c.events {
		d, ok := e.Event.(Delivery)
		if !ok {
			continue
		}
		at := position{d.TopicPartition, d.Offset}
		log := c.logs[d.TopicPartition]
		if was, ok := first[at]; !ok {
			first[at] = d
		} else if was.ID != d.ID && !log.mayChange(d.Offset) {
			c.blame("read, other reader", violationAt(d, was, d), "%q was delivered where %q was before", d.ID, was.ID)
		}
		if log != nil {
			c.checkValue(d, log)
		}
	}
}

func (c *checker) checkValue(d Delivery, log *logIndex) {
	r := log.record(d.Offset)
	switch {
	case r == nil:
		if !log.mayMiss(d.Offset) && (log.End == 0 || d.Offset < log.End || !log.mayChange(d.Offset)) {
			c.blame("read, not there", violationAt(d, d), "%q was delivered, and the log has nothing there", d.ID)
		}
		return
	case r.Control:
		c.blame("read control", violationAt(d, d), "a control record was delivered")
		return
	case r.ID != d.ID && !log.mayChange(d.Offset):
		c.blame("read, other value", violationAt(d, d), "%q was delivered, and the log has %q", d.ID, r.ID)
	}
	if c.rules.group(d.Group).of(d.Member).Isolation != ReadCommitted {
		return
	}
	switch {
	case r.Transaction == Aborted:
		c.blame("read aborted", violationAt(d, d), "a record of an aborted transaction was delivered")
	case r.Transaction == Open:
		c.blame("read open", violationAt(d, d), "a record was delivered whose transaction had not ended")
	case !r.Available.IsZero() && d.Began.Before(r.Available):
		c.blame("read early", violationAt(d, d), "a record was delivered before its transaction had ended")
	}
}

// violationAt is one that shows at a delivery.
func violationAt(d Delivery, events ...Event) Violation {
	return Violation{TopicPartition: d.TopicPartition, Offset: d.Offset, Group: d.Group, Member: d.Member, Events: events}
}
