/* dispatch.c - fastinfer._dispatch: a launch without ctypes' arrays. The package works without it.
 *
 * launch(function, kernel, sizes, reals, stream, tensors) -> code. function and kernel: addresses
 * of fastinfer_kernel_launch and of a kernel; sizes: a tuple of int; reals: a tuple of float, ()
 * for the defaults; stream: a CUstream; tensors: a tuple of tensors, whose data_ptr() is taken,
 * addresses, or None. Nothing is linked: the library is the one that Python loaded.
 */
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include "include/fastinfer.h"

enum { MOST = 16 }; /* of each: more than any kernel has */

typedef enum fastinfer_code launch_function(struct fastinfer_kernel *, void *const *,
                                            const int64_t *, const double *, void *, size_t,
                                            void *);
static PyObject *data_ptr; /* the method's name */

static int read_pointers(PyObject *tensors, void **out) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(tensors); i++) {
        PyObject *item = PyTuple_GetItem(tensors, i), *address = NULL;
        out[i] = NULL;
        if (item == Py_None) continue;
        if (PyLong_Check(item)) {
            out[i] = PyLong_AsVoidPtr(item);
        } else {
            address = PyObject_CallMethodObjArgs(item, data_ptr, NULL);
            if (!address) return -1;
            out[i] = PyLong_AsVoidPtr(address);
            Py_DECREF(address);
        }
        if (PyErr_Occurred()) return -1;
    }
    return 0;
}

static PyObject *launch(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *sizes, *reals, *tensors, *result = NULL;
    unsigned long long function, kernel, stream;
    void *pointer[MOST];
    int64_t size[MOST];
    double real[MOST];
    if (!PyArg_ParseTuple(args, "KKO!O!KO!", &function, &kernel, &PyTuple_Type, &sizes,
                          &PyTuple_Type, &reals, &stream, &PyTuple_Type, &tensors))
        return NULL;
    if (PyTuple_Size(sizes) > MOST || PyTuple_Size(reals) > MOST || PyTuple_Size(tensors) > MOST) {
        PyErr_SetString(PyExc_ValueError, "launch: at most 16 of each were expected");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(sizes); i++)
        size[i] = PyLong_AsLongLong(PyTuple_GetItem(sizes, i));
    for (Py_ssize_t i = 0; i < PyTuple_Size(reals); i++)
        real[i] = PyFloat_AsDouble(PyTuple_GetItem(reals, i));
    if (!PyErr_Occurred() && !read_pointers(tensors, pointer)) {
        launch_function *call = (launch_function *)(uintptr_t)function;
        enum fastinfer_code code;
        Py_BEGIN_ALLOW_THREADS;
        code = call((struct fastinfer_kernel *)(uintptr_t)kernel, pointer, size,
                    PyTuple_Size(reals) ? real : NULL, NULL, 0, (void *)(uintptr_t)stream);
        Py_END_ALLOW_THREADS;
        result = PyLong_FromLong(code);
    }
    return result;
}

static PyMethodDef methods[] = {{"launch", launch, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_dispatch", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__dispatch(void) {
    data_ptr = PyUnicode_InternFromString("data_ptr");
    return data_ptr ? PyModule_Create(&module) : NULL;
}
