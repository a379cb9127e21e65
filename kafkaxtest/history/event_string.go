package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String is orders[2], or orders[2]#1 for the second incarnation.
func (tp TopicPartition) String() string {
	s := tp.Topic + "[" + strconv.Itoa(tp.Partition) + "]"
	if tp.Incarnation != 0 {
		s += "#" + strconv.Itoa(tp.Incarnation)
	}
	return s
}

func (s Span) last() int64 { return max(s.First, s.Last) }

// String is orders[2]@7, or orders[2]@7-9.
func (s Span) String() string {
	text := at(s.TopicPartition, s.First)
	if s.last() > s.First {
		text += "-" + strconv.FormatInt(s.last(), 10)
	}
	return text
}

func at(tp TopicPartition, offset int64) string {
	return tp.String() + "@" + strconv.FormatInt(offset, 10)
}

func (e Send) String() string {
	to := e.Topic
	if e.Placed {
		to = at(e.place(), e.Offset)
	}
	return line("send", e.Producer, e.Caller, to, quoted(e.ID), key(e.Key),
		took(orElse(string(e.Outcome), "pending"), e.Began, e.Returned))
}

func (e Start) String() string {
	return line("start", e.Member, group(e.Group, 0), strings.Join(e.Topics, " "))
}

func (e Assign) String() string {
	return line("assign", e.Member, group(e.Group, e.Generation), list(e.Partitions))
}

func (e Revoke) String() string {
	verb := "revoke"
	if e.Lost {
		verb = "lost"
	}
	return line(verb, e.Member, group(e.Group, e.Generation), list(e.Partitions), again(e.Again))
}

func (e Delivery) String() string {
	attempt, batch, context := "", "", ""
	if e.Attempt > 1 {
		attempt = "attempt " + strconv.Itoa(e.Attempt)
	}
	if e.Batch != 0 {
		batch = "batch " + strconv.Itoa(e.Batch)
	}
	if !e.ContextEnded.IsZero() {
		context = "context ended after " + e.ContextEnded.Sub(e.Began).String()
	}
	return line("deliver", e.Member, group(e.Group, e.Generation), at(e.TopicPartition, e.Offset), quoted(e.ID), key(e.Key),
		attempt, batch, took(orElse(string(e.Outcome), "running"), e.Began, e.Ended), context)
}

func (e DeadLetter) String() string {
	outcome := "not acknowledged"
	if e.Acknowledged {
		outcome = "acknowledged"
	}
	return line("dead letter", e.Member, group(e.Group, 0), e.Span.String(), quoted(e.ID), "to", e.To, outcome)
}

func (e Skip) String() string {
	return line("skip", e.Member, group(e.Group, 0), e.Span.String())
}

func (e Commit) String() string {
	return line("commit", e.Member, group(e.Group, e.Generation), at(e.TopicPartition, e.Offset))
}

func (e Seek) String() string {
	verb := "seek"
	if e.Reset {
		verb = "reset"
	}
	where := at(e.TopicPartition, e.Offset)
	if e.Partition < 0 {
		where = e.Topic + "@" + strconv.FormatInt(e.Offset, 10)
	}
	return line(verb, e.Member, group(e.Group, 0), where)
}

func (e Stop) String() string {
	bound, failure := "", ""
	if e.Bound > 0 {
		bound = "bound " + e.Bound.String()
	}
	if e.Err != "" {
		failure = "error " + strconv.Quote(e.Err)
	}
	outcome := "returned"
	if e.Returned.IsZero() {
		outcome = "running"
	}
	return line("stop", e.Member, group(e.Group, 0), took(outcome, e.Began, e.Returned), bound, again(e.Again), failure)
}

func (e Fault) String() string {
	outcome := "over"
	if e.Ended.IsZero() {
		outcome = "goes on"
	}
	return line("fault", string(e.Kind), e.Target, e.Text, took(outcome, e.Began, e.Ended))
}

func (e Leak) String() string {
	return line("leak", e.Member, e.Text)
}

func line(words ...string) string {
	var b strings.Builder
	for _, word := range words {
		if word == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String()
}

func orElse(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func quoted(id string) string {
	if id == "" {
		return ""
	}
	return strconv.Quote(id)
}

func key(k string) string {
	if k == "" {
		return ""
	}
	return "key " + strconv.Quote(k)
}

func group(name string, generation int) string {
	switch {
	case name == "":
		return ""
	case generation == 0:
		return "of " + name
	}
	return fmt.Sprintf("of %s/%d", name, generation)
}

func took(outcome string, began, ended time.Time) string {
	if ended.IsZero() {
		return outcome
	}
	return outcome + " after " + ended.Sub(began).String()
}

func again(spans []Span) string {
	if len(spans) == 0 {
		return ""
	}
	return "again " + list(spans)
}

func list[T fmt.Stringer](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = one.String()
	}
	return strings.Join(texts, " ")
}
