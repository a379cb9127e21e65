package kafkaxtest

import (
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// topicID is what requests of newer versions name a topic by. They are by chance,
// and one that is made again has another.
type topicID = [16]byte

// learn keeps the ids that an answer tells a client: whoever uses one has learned
// it so.
func (s *Sim) learn(res *kmsg.MetadataResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range res.Topics {
		if t.Topic == nil || t.TopicID == (topicID{}) {
			continue
		}
		if _, ok := s.ids[t.TopicID]; !ok {
			s.ids[t.TopicID] = s.logLocked(*t.Topic, 0)
		}
	}
}

// logNamed is log for a topic of which a request gives the name or the id.
func (s *Sim) logNamed(name string, id topicID, partition int) history.TopicPartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tp, ok := s.ids[id]; ok && name == "" {
		tp.Partition = partition
		return tp
	}
	return s.logLocked(name, partition)
}

// topicsOf is what a request names.
func (s *Sim) topicsOf(req kmsg.Request) []string {
	if req == nil {
		return nil
	}
	list := reflect.ValueOf(req).Elem().FieldByName("Topics")
	if !list.IsValid() || list.Kind() != reflect.Slice {
		return nil
	}
	var names []string
	for i := range list.Len() {
		entry, id := list.Index(i), topicID{}
		if entry.Kind() == reflect.Struct {
			if field := entry.FieldByName("TopicID"); field.IsValid() {
				id, _ = reflect.TypeAssert[topicID](field)
			}
			entry = entry.FieldByName("Topic")
		}
		if entry.IsValid() && entry.Kind() == reflect.Pointer {
			entry = entry.Elem()
		}
		name := ""
		if entry.IsValid() && entry.Kind() == reflect.String {
			name = entry.String()
		}
		if name = s.logNamed(name, id, 0).Topic; name != "" {
			names = append(names, name)
		}
	}
	return names
}
