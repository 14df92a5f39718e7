#include "trace/trace-hw_rvmrpc.h"
