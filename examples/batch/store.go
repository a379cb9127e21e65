package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", in Go alone

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

// The key is where the message stands in Kafka, not the event's id: what a
// producer sent twice is two messages, and no business of this program.
const createTable = `CREATE TABLE IF NOT EXISTS events (
	topic     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	"offset"  INTEGER NOT NULL,
	id        TEXT    NOT NULL,
	time      TEXT    NOT NULL,
	magnitude REAL    NOT NULL,
	place     TEXT    NOT NULL,
	PRIMARY KEY (topic, partition, "offset")
) STRICT, WITHOUT ROWID`

const insertEvent = `INSERT INTO events (topic, partition, "offset", id, time, magnitude, place)
	VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// store is the table of events.
type store struct {
	db   *sql.DB
	out  *log.Logger
	pace time.Duration
}

func openStore(ctx context.Context, file string, out *log.Logger) (*store, error) {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	if _, err := db.ExecContext(ctx, createTable); err != nil {
		return nil, errors.Join(fmt.Errorf("create the table in %s: %w", file, err), db.Close())
	}
	return &store{db: db, out: out}, nil
}

func (s *store) close() error { return s.db.Close() }

// add is the handler.
func (s *store) add(ctx context.Context, msgs []kafkax.Message) error {
	added, failed, err := s.transact(ctx, msgs)
	if err != nil {
		s.out.Printf("not stored: %d messages, to be tried again: %v", len(msgs), err)
		return err
	}
	s.out.Printf("stored: %d of %d messages, %d were there, %d are no events",
		added, len(msgs), len(msgs)-added-len(failed), len(failed))

	s.rest(ctx)
	if len(failed) > 0 {
		return &kafkax.BatchError{Failed: failed} // the others are stored
	}
	return nil
}

// transact stores a batch in one transaction: all of it, or nothing.
func (s *store) transact(ctx context.Context, msgs []kafkax.Message) (added int, failed map[int]error, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, nil, err
	}
	added, failed, err = insert(ctx, tx, msgs)
	if err != nil {
		return 0, nil, errors.Join(err, tx.Rollback())
	}
	return added, failed, tx.Commit()
}

// insert says how many rows are new, and by index which messages are no events.
func insert(ctx context.Context, tx *sql.Tx, msgs []kafkax.Message) (added int, failed map[int]error, err error) {
	stmt, err := tx.PrepareContext(ctx, insertEvent)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, stmt.Close()) }()

	failed = map[int]error{}
	for i, msg := range msgs {
		var e quakes.Event
		if err := json.Unmarshal(msg.Value, &e); err != nil {
			failed[i] = kafkax.Permanent(fmt.Errorf("decode: %w", err))
			continue
		}
		res, err := stmt.ExecContext(ctx, msg.Topic, msg.Partition, msg.Offset, e.ID, e.At().Format(time.RFC3339Nano), e.Mag, e.Place)
		if err != nil {
			return added, nil, fmt.Errorf("store %s[%d]@%d: %w", msg.Topic, msg.Partition, msg.Offset, err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return added, nil, err
		}
		added += int(n)
	}
	return added, failed, nil
}

// rest waits, unless it is time to stop. The batch is stored by now.
func (s *store) rest(ctx context.Context) {
	if s.pace <= 0 {
		return
	}
	select {
	case <-time.After(s.pace):
	case <-ctx.Done():
	}
}

func (s *store) count(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT count(*) FROM events").Scan(&n)
	return n, err
}
