package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/snapdb/snapdb/subjects"
)

// ErrCut is returned when a result was longer than one answer and the server
// could not keep the rest, as for reads inside a transaction.
var ErrCut = errors.New("the result is longer than one answer and its rest is not to be had: use LIMIT, or read outside the transaction")

// Pages hands result r and then, as long as it is truncated, its next pages to
// yield; only one page is in memory at a time. Pages after the first may lack
// columns and types. door and database, session and time limit are those of req,
// whose answer r was. It stops at the first error of yield.
func (c *Client) Pages(ctx context.Context, door string, req *subjects.Request, r *subjects.Result, yield func(*subjects.Result) error) error {
	for {
		if err := yield(r); err != nil {
			return err
		}
		if !r.Truncated {
			return nil
		}
		if r.More == "" {
			return ErrCut
		}
		next := &subjects.Request{DB: req.DB, Session: req.Session, TimeoutMS: req.TimeoutMS, More: r.More}
		resp, err := c.Do(ctx, door, next)
		if err != nil {
			return fmt.Errorf("go on reading: %w", err)
		}
		if len(resp.Results) != 1 {
			return fmt.Errorf("go on reading: %d results instead of one", len(resp.Results))
		}
		r = &resp.Results[0]
	}
}

// Rows runs a single SELECT at a door and yields its rows one by one, however
// many there are, in constant memory. The error comes last, with a nil row.
func (c *Client) Rows(ctx context.Context, door string, req *subjects.Request) iter.Seq2[[]subjects.Value, error] {
	return func(yield func([]subjects.Value, error) bool) {
		resp, err := c.Do(ctx, door, req)
		if err == nil && len(resp.Results) != 1 {
			err = fmt.Errorf("%d results instead of one", len(resp.Results))
		}
		if err != nil {
			yield(nil, err)
			return
		}
		stop := errors.New("the caller has enough")
		err = c.Pages(ctx, door, req, &resp.Results[0], func(page *subjects.Result) error {
			for _, row := range page.Rows {
				if !yield(row, nil) {
					return stop
				}
			}
			return nil
		})
		if err != nil && err != stop {
			yield(nil, err)
		}
	}
}
