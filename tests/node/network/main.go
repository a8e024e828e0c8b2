// SPDX-License-Identifier: Apache-2.0

// Command network is a network plugin for machines on one segment, as its DaemonSet runs it on each node: pods get addresses
// of the node's part of the pod network, and every node has a route to the parts of the others. Nothing is tunnelled or
// translated. The plugins that it names are those of containernetworking/plugins, which the node has. With --nodes it prints
// what nodes it sees, and ends.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount"
	// Nodes come rarely; none is waited for longer than this.
	period = 5 * time.Second
)

// node is what is used of a Node.
type node struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		PodCIDR string `json:"podCIDR"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

func (n node) address() net.IP {
	for _, address := range n.Status.Addresses {
		if address.Type == "InternalIP" {
			return net.ParseIP(address.Address)
		}
	}
	return nil
}

func main() {
	// The way through the cluster's own service network may not be there yet.
	server, own, folder := os.Getenv("API_SERVER"), os.Getenv("NODE_NAME"), os.Getenv("CNI_FOLDER")
	client, err := newClient()
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "--nodes" {
		nodes, err := list(client, server)
		if err != nil {
			log.Fatal(err)
		}
		for _, one := range nodes {
			fmt.Println(one.Metadata.Name)
		}
		return
	}
	for ; ; time.Sleep(period) {
		nodes, err := list(client, server)
		if err != nil {
			log.Print(err)
			continue
		}
		for _, one := range nodes {
			if err := follow(one, own, folder); err != nil {
				log.Printf("node %s: %v", one.Metadata.Name, err)
			}
		}
	}
}

func newClient() (*http.Client, error) {
	authority, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, nil
}

func list(client *http.Client, server string) ([]node, error) {
	// The kubelet renews it.
	token, err := os.ReadFile(filepath.Join(account, "token"))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, server+"/api/v1/nodes", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server answers %s", answer.Status)
	}
	var nodes struct {
		Items []node `json:"items"`
	}
	err = json.NewDecoder(answer.Body).Decode(&nodes)
	return nodes.Items, err
}

// follow does what a node means for this one.
func follow(one node, own, folder string) error {
	if one.Spec.PodCIDR == "" {
		return nil
	}
	if one.Metadata.Name == own {
		return configure(one.Spec.PodCIDR, folder)
	}
	gateway := one.address()
	if gateway == nil {
		return nil
	}
	_, pods, err := net.ParseCIDR(one.Spec.PodCIDR)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: gateway})
}

// configure tells the container runtime how pods are connected: the file appears whole.
func configure(pods, folder string) error {
	type object = map[string]any
	text, err := json.Marshal(object{
		"cniVersion": "1.0.0",
		"name":       "network",
		"plugins": []object{
			{
				"type": "ptp",
				"ipam": object{
					"type":   "host-local",
					"ranges": [][]object{{{"subnet": pods}}},
					"routes": []object{{"dst": "0.0.0.0/0"}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	})
	if err != nil {
		return err
	}
	path := filepath.Join(folder, "10-network.conflist")
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	temporary := filepath.Join(folder, ".10-network.new")
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
