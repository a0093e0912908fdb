/*
 * dispatch.c - the only C that includes Python.h: the core's `deliver` calls the stored callable.
 *
 * The GIL is taken at a burst's first delivery and given back when the burst is over.  An
 * exception is appended to the context's `parked` list and the loop stops; the call that runs
 * the loop raises it again.  Callables and user contexts are held by references of our own.
 */
#include <Python.h>

#include "../monitor/context.h"

/* One per thread: a thread runs one loop at a time. */
static _Thread_local struct {
	PyGILState_STATE state;
	bool held;
} gil;

static void enter(void)
{
	if (gil.held)
		return;
	gil.state = PyGILState_Ensure();
	gil.held = true;
}

static void leave(struct mos_context *ctx)
{
	(void)ctx;
	if (!gil.held)
		return;
	gil.held = false;
	PyGILState_Release(gil.state);
}

static bool stops_always(PyObject *type)
{
	return PyErr_GivenExceptionMatches(type, PyExc_KeyboardInterrupt) ||
	       PyErr_GivenExceptionMatches(type, PyExc_SystemExit);
}

/* Move the exception that is set into the list; returns 1 when the loop has to stop. */
static int park(struct mos_context *ctx)
{
	PyObject *type, *value, *traceback;
	int stop;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	if (traceback)
		PyException_SetTraceback(value, traceback);
	ctx->counter[MOS_CNT_CALLBACK_ERRORS]++;
	stop = !ctx->config.on_error_log || stops_always(type);
	if (PyList_Append(ctx->parked, value))
		PyErr_Clear();
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	return stop;
}

static PyObject *call(PyObject *callable, PyObject *ctx, int64_t sock, int side, uint64_t event)
{
	PyObject *py_sock = PyLong_FromLongLong(sock), *py_side = PyLong_FromLong(side);
	PyObject *py_event = PyLong_FromUnsignedLongLong(event), *result = NULL;

	if (py_sock && py_side && py_event)
		result = PyObject_CallFunctionObjArgs(callable, ctx, py_sock, py_side, py_event, NULL);
	Py_XDECREF(py_sock);
	Py_XDECREF(py_side);
	Py_XDECREF(py_event);
	return result;
}

static int deliver(struct mos_context *ctx, void *callable, int64_t sock, int side, uint64_t event)
{
	PyGILState_STATE outer;
	PyObject *result;
	int stop = 0;

	enter();
	outer = gil.state;
	gil.held = false; /* calls from the callback come in without the GIL, and may run another loop */
	result = call(callable, ctx->pyctx, sock, side, event);
	gil.held = true;
	gil.state = outer;
	if (!result)
		stop = park(ctx);
	Py_XDECREF(result);
	return stop;
}

static void retain(void *object)
{
	PyGILState_STATE state = PyGILState_Ensure();

	Py_INCREF((PyObject *)object);
	PyGILState_Release(state);
}

static void release(void *object)
{
	PyGILState_STATE state = PyGILState_Ensure();

	Py_DECREF((PyObject *)object);
	PyGILState_Release(state);
}

const struct event_host *event_host_python(void)
{
	static const struct event_host host = {deliver, retain, release, leave};

	return &host;
}
