package dashboard

import (
	"context"
	"net/http"

	"github.com/snapdb/snapdb/subjects"
)

// getStatus answers with the state of the whole cluster.
func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	info, err := s.askRaw(r.Context(), subjects.ClusterInfo, nil)
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, info)
	return nil
}

// getNodes lists the slaves.
func (s *Server) getNodes(w http.ResponseWriter, r *http.Request) error {
	var info subjects.ClusterInfoResponse
	if err := s.ask(r.Context(), subjects.ClusterInfo, struct{}{}, &info); err != nil {
		return err
	}
	return replyJSON(w, http.StatusOK, map[string]any{"nodes": info.Nodes})
}

// getNode shows one slave.
func (s *Server) getNode(w http.ResponseWriter, r *http.Request) error {
	n, err := s.node(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return replyJSON(w, http.StatusOK, n)
}

// node is a slave as it is now.
func (s *Server) node(ctx context.Context, id string) (*subjects.NodeInfo, error) {
	var info subjects.ClusterInfoResponse
	if err := s.ask(ctx, subjects.ClusterInfo, struct{}{}, &info); err != nil {
		return nil, err
	}
	for i := range info.Nodes {
		if info.Nodes[i].ID == id {
			return &info.Nodes[i], nil
		}
	}
	return nil, noSuchNode(id)
}

func noSuchNode(id string) error {
	return subjects.Errorf(subjects.CodeNotFound, "no node %q has ever joined", clip(id))
}
