package client

import (
	"context"
	"fmt"

	"github.com/snapdb/snapdb/subjects"
)

// Send asks the master to command nodes. The record says how that stands, which is
// at its beginning: [Client.Command] shows it later.
func (c *Client) Send(ctx context.Context, req *subjects.CommandRequest) (*subjects.CommandRecord, error) {
	return c.oneCommand(ctx, subjects.CommandSend, req)
}

// Preview asks the master whom a command would reach. Nothing is recorded.
func (c *Client) Preview(ctx context.Context, req *subjects.CommandRequest) (*subjects.CommandPreviewResponse, error) {
	p := new(subjects.CommandPreviewResponse)
	if err := c.doJSON(ctx, subjects.CommandPreview, req, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Command is the record of one command, with the outputs of its nodes.
func (c *Client) Command(ctx context.Context, id string) (*subjects.CommandRecord, error) {
	return c.oneCommand(ctx, subjects.CommandList, &subjects.CommandQuery{ID: id})
}

// Commands are the newest records; of those to one node, if node is not "". At
// limit 0 the master says how many.
func (c *Client) Commands(ctx context.Context, node string, limit int) ([]subjects.CommandRecord, error) {
	resp := new(subjects.CommandResponse)
	if err := c.doJSON(ctx, subjects.CommandList, &subjects.CommandQuery{Node: node, Limit: limit}, resp); err != nil {
		return nil, err
	}
	return resp.Commands, nil
}

// CancelCommand withdraws a command from its nodes, or from some of them. The
// record says what came of that.
func (c *Client) CancelCommand(ctx context.Context, q *subjects.CommandQuery) (*subjects.CommandRecord, error) {
	return c.oneCommand(ctx, subjects.CommandCancel, q)
}

// RetryCommand gives a command again to those of its nodes that have not done it,
// or to some of them. The record is a new one.
func (c *Client) RetryCommand(ctx context.Context, q *subjects.CommandQuery) (*subjects.CommandRecord, error) {
	return c.oneCommand(ctx, subjects.CommandRetry, q)
}

func (c *Client) oneCommand(ctx context.Context, door string, req any) (*subjects.CommandRecord, error) {
	resp := new(subjects.CommandResponse)
	if err := c.doJSON(ctx, door, req, resp); err != nil {
		return nil, err
	}
	if len(resp.Commands) != 1 {
		return nil, fmt.Errorf("read answer of %s: %d commands instead of one", door, len(resp.Commands))
	}
	return &resp.Commands[0], nil
}
