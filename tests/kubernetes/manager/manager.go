// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	name       = "tests-manager"
	finalizer  = "tests.invalid/manager"
	hardwareOf = "tests.invalid/hardware"
	byHardware = "spec.hardwareRef"
	byMAC      = "spec.interfaces.dhcp.mac"
	// What the reconciler has seen is written here, for the test to read.
	seenBy        = "tests.invalid/seen-by"
	seenWorkflows = "tests.invalid/workflows"
	seenSecrets   = "tests.invalid/secrets"
	seenTwins     = "tests.invalid/twins"
)

// Time after which another replica takes over, how long the leader tries to renew, and between tries. A server that is
// restarted is away for less than the second.
const (
	leaseDuration = 30 * time.Second
	renewDeadline = 27 * time.Second
	retryPeriod   = 500 * time.Millisecond
)

func run(ctx context.Context, config *rest.Config, namespace, identity string) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addToScheme(scheme)
	ours, err := labels.Parse(hardwareOf)
	if err != nil {
		return err
	}
	lease, renew, retry := leaseDuration, renewDeadline, retryPeriod
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Client:                        client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{namespace: {}},
			ByObject: map[client.Object]cache.ByObject{
				&corev1.ConfigMap{}: {Label: ours},
			},
		},
	})
	if err != nil {
		return err
	}
	if err := index(ctx, manager.GetFieldIndexer()); err != nil {
		return err
	}
	live, err := client.New(config, client.Options{Scheme: scheme, Mapper: manager.GetRESTMapper()})
	if err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: clients.EventsV1()})
	broadcaster.StartRecordingToSink(ctx.Done())
	defer broadcaster.Shutdown()
	reconciler := &hardwareReconciler{
		Client:   manager.GetClient(),
		live:     live,
		identity: identity,
		core:     manager.GetEventRecorderFor(name),
		events:   broadcaster.NewRecorder(scheme, name),
	}
	if err := reconciler.setUp(manager); err != nil {
		return err
	}
	if err := setUpWorkflows(manager); err != nil {
		return err
	}
	return manager.Start(ctx)
}

func index(ctx context.Context, indexer client.FieldIndexer) error {
	macs := func(object client.Object) []string {
		var found []string
		for _, card := range object.(*Hardware).Spec.Interfaces {
			if card.DHCP != nil {
				found = append(found, card.DHCP.MAC)
			}
		}
		return found
	}
	if err := indexer.IndexField(ctx, &Hardware{}, byMAC, macs); err != nil {
		return err
	}
	return indexer.IndexField(ctx, newWorkflow(), byHardware, func(object client.Object) []string {
		return []string{hardwareRef(object)}
	})
}

func newWorkflow() *unstructured.Unstructured {
	workflow := &unstructured.Unstructured{}
	workflow.SetGroupVersionKind(workflowGVK)
	return workflow
}

func hardwareRef(object client.Object) string {
	found, _, _ := unstructured.NestedString(object.(*unstructured.Unstructured).Object, "spec", "hardwareRef")
	return found
}

// hardwareReconciler keeps a ConfigMap and a Secret for every Hardware and writes down what it sees.
type hardwareReconciler struct {
	client.Client
	// Past the cache, which holds only the metadata of Secrets.
	live     client.Client
	identity string
	core     record.EventRecorder
	events   events.EventRecorder
}

func (r *hardwareReconciler) setUp(manager ctrl.Manager) error {
	toHardware := func(name string, object client.Object) []reconcile.Request {
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
	}
	of := func(_ context.Context, workflow client.Object) []reconcile.Request {
		return toHardware(hardwareRef(workflow), workflow)
	}
	labelled := func(_ context.Context, object client.Object) []reconcile.Request {
		return toHardware(object.GetLabels()[hardwareOf], object)
	}
	changed := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{})
	return ctrl.NewControllerManagedBy(manager).
		Named("hardware").
		For(&Hardware{}, builder.WithPredicates(changed)).
		Owns(&corev1.ConfigMap{}).
		Watches(newWorkflow(), handler.EnqueueRequestsFromMapFunc(of)).
		// Only the metadata of Secrets: what is in them is nobody's business here.
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(labelled)).
		Complete(r)
}

// Reconcile makes one Hardware be as it should.
func (r *hardwareReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	hardware := &Hardware{}
	if err := r.Get(ctx, request.NamespacedName, hardware); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !hardware.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.letGo(ctx, hardware)
	}
	before := hardware.DeepCopy()
	if controllerutil.AddFinalizer(hardware, finalizer) {
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Patch(ctx, hardware, patch); err != nil {
			return ctrl.Result{}, fmt.Errorf("add the finalizer: %w", err)
		}
	}
	if err := r.applyConfigMap(ctx, hardware); err != nil {
		return ctrl.Result{}, fmt.Errorf("apply the ConfigMap: %w", err)
	}
	if err := r.keepSecret(ctx, hardware); err != nil {
		return ctrl.Result{}, fmt.Errorf("keep the Secret: %w", err)
	}
	if err := r.writeDown(ctx, hardware); err != nil {
		return ctrl.Result{}, fmt.Errorf("write down what was seen: %w", err)
	}
	if hardware.Status.State == "" {
		before = hardware.DeepCopy()
		hardware.Status.State = "seen"
		if err := r.Status().Patch(ctx, hardware, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, fmt.Errorf("patch the status: %w", err)
		}
		r.core.Event(hardware, corev1.EventTypeNormal, "CoreSeen", "seen for the first time")
		r.events.Eventf(hardware, nil, corev1.EventTypeNormal, "Seen", "Look", "seen for the first time")
	}
	return ctrl.Result{}, nil
}

// letGo removes the finalizer once no Workflow names the Hardware; the end of the last one wakes it again.
func (r *hardwareReconciler) letGo(ctx context.Context, hardware *Hardware) error {
	if !controllerutil.ContainsFinalizer(hardware, finalizer) {
		return nil
	}
	workflows, err := r.workflowsOf(ctx, hardware)
	if err != nil || len(workflows) > 0 {
		return err
	}
	before := hardware.DeepCopy()
	controllerutil.RemoveFinalizer(hardware, finalizer)
	return client.IgnoreNotFound(r.Patch(ctx, hardware, client.MergeFrom(before)))
}

func (r *hardwareReconciler) workflowsOf(ctx context.Context, hardware *Hardware) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(tinkerbell.WithKind("WorkflowList"))
	err := r.List(ctx, list, client.InNamespace(hardware.Namespace), client.MatchingFields{byHardware: hardware.Name})
	return list.Items, err
}

func (r *hardwareReconciler) applyConfigMap(ctx context.Context, hardware *Hardware) error {
	owner := metav1apply.OwnerReference().
		WithAPIVersion(tinkerbell.String()).WithKind("Hardware").
		WithName(hardware.Name).WithUID(hardware.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	mac := ""
	if len(hardware.Spec.Interfaces) > 0 && hardware.Spec.Interfaces[0].DHCP != nil {
		mac = hardware.Spec.Interfaces[0].DHCP.MAC
	}
	wanted := corev1apply.ConfigMap(hardware.Name, hardware.Namespace).
		WithOwnerReferences(owner).
		WithLabels(map[string]string{hardwareOf: hardware.Name}).
		WithData(map[string]string{"mac": mac})
	return r.Apply(ctx, wanted, client.FieldOwner(name), client.ForceOwnership)
}

// keepSecret reads and writes the typed object, in the form that client-go prefers for built-in kinds: protobuf.
func (r *hardwareReconciler) keepSecret(ctx context.Context, hardware *Hardware) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: hardware.Name, Namespace: hardware.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, r.live, secret, func() error {
		secret.Labels = map[string]string{"tests.invalid/kept": "true"}
		secret.Data = map[string][]byte{"uid": []byte(hardware.UID)}
		return controllerutil.SetControllerReference(hardware, secret, r.Scheme())
	})
	return err
}

// writeDown puts what the caches show into annotations.
func (r *hardwareReconciler) writeDown(ctx context.Context, hardware *Hardware) error {
	workflows, err := r.workflowsOf(ctx, hardware)
	if err != nil {
		return err
	}
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	mine := client.MatchingLabels{hardwareOf: hardware.Name}
	if err := r.List(ctx, secrets, client.InNamespace(hardware.Namespace), mine); err != nil {
		return err
	}
	twins := 0
	for _, card := range hardware.Spec.Interfaces {
		if card.DHCP == nil {
			continue
		}
		same := &HardwareList{}
		with := client.MatchingFields{byMAC: card.DHCP.MAC}
		if err := r.List(ctx, same, client.InNamespace(hardware.Namespace), with); err != nil {
			return err
		}
		twins += len(same.Items) - 1
	}
	seen := map[string]string{
		seenBy:        r.identity,
		seenWorkflows: strconv.Itoa(len(workflows)),
		seenSecrets:   strconv.Itoa(len(secrets.Items)),
		seenTwins:     strconv.Itoa(twins),
	}
	before := hardware.DeepCopy()
	for key, value := range seen {
		metav1.SetMetaDataAnnotation(&hardware.ObjectMeta, key, value)
	}
	return r.Patch(ctx, hardware, client.MergeFrom(before))
}

// setUpWorkflows adds a controller that sets a condition as Cluster API's patch helper does: a merge patch of the status
// that names the resourceVersion it was made from.
func setUpWorkflows(manager ctrl.Manager) error {
	reconciler := reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		workflow := newWorkflow()
		if err := manager.GetClient().Get(ctx, request.NamespacedName, workflow); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		if conditions, _, _ := unstructured.NestedSlice(workflow.Object, "status", "conditions"); len(conditions) > 0 {
			return reconcile.Result{}, nil
		}
		before := workflow.DeepCopy()
		condition := map[string]any{"type": "Looked", "status": "True", "reason": "Seen"}
		if err := unstructured.SetNestedSlice(workflow.Object, []any{condition}, "status", "conditions"); err != nil {
			return reconcile.Result{}, err
		}
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		return reconcile.Result{}, manager.GetClient().Status().Patch(ctx, workflow, patch)
	})
	return ctrl.NewControllerManagedBy(manager).Named("workflow").For(newWorkflow()).Complete(reconciler)
}
