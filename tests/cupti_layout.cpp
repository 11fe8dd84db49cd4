// cupti_layout.cpp - our declarations of CUPTI against its own headers, where those are there: it
// only has to compile.
#include <cuda.h>
#include <cupti_target.h>
#include <cupti_profiler_target.h>
#include <cupti_profiler_host.h>
#include <cupti_range_profiler.h>
#include "harness/cupti_api.h"
#define SAME(mine, last, theirs)                                                                   \
    static_assert(CUPTI_SIZE(mine, last) == theirs##_STRUCT_SIZE, #theirs)
#define OFF(mine, f, theirs, g)                                                                    \
    static_assert(offsetof(struct mine, f) == offsetof(theirs, g), #theirs #g)
SAME(cupti_plain, priv, CUpti_Profiler_Initialize_Params);
SAME(cupti_chip, name, CUpti_Device_GetChipName_Params);
SAME(cupti_availability, image, CUpti_Profiler_GetCounterAvailability_Params);
SAME(cupti_host_open, host, CUpti_Profiler_Host_Initialize_Params);
SAME(cupti_host_close, host, CUpti_Profiler_Host_Deinitialize_Params);
SAME(cupti_add_metrics, count, CUpti_Profiler_Host_ConfigAddMetrics_Params);
SAME(cupti_config_size, bytes, CUpti_Profiler_Host_GetConfigImageSize_Params);
SAME(cupti_config, image, CUpti_Profiler_Host_GetConfigImage_Params);
SAME(cupti_evaluate, values, CUpti_Profiler_Host_EvaluateToGpuValues_Params);
SAME(cupti_enable, profiler, CUpti_RangeProfiler_Enable_Params);
SAME(cupti_profiler, profiler, CUpti_RangeProfiler_Disable_Params);
SAME(cupti_profiler, profiler, CUpti_RangeProfiler_Start_Params);
SAME(cupti_profiler, profiler, CUpti_RangeProfiler_PopRange_Params);
SAME(cupti_stop, all_submitted, CUpti_RangeProfiler_Stop_Params);
SAME(cupti_push, name, CUpti_RangeProfiler_PushRange_Params);
SAME(cupti_decode, dropped, CUpti_RangeProfiler_DecodeData_Params);
SAME(cupti_data_size, bytes, CUpti_RangeProfiler_GetCounterDataSize_Params);
SAME(cupti_data, image, CUpti_RangeProfiler_CounterDataImage_Initialize_Params);
SAME(cupti_set_config, target_level, CUpti_RangeProfiler_SetConfig_Params);
OFF(cupti_set_config, ranges_per_pass, CUpti_RangeProfiler_SetConfig_Params, maxRangesPerPass);
OFF(cupti_set_config, levels, CUpti_RangeProfiler_SetConfig_Params, numNestingLevels);
OFF(cupti_set_config, least_level, CUpti_RangeProfiler_SetConfig_Params, minNestingLevel);
OFF(cupti_set_config, pass, CUpti_RangeProfiler_SetConfig_Params, passIndex);
OFF(cupti_set_config, range, CUpti_RangeProfiler_SetConfig_Params, range);
OFF(cupti_data_size, nodes, CUpti_RangeProfiler_GetCounterDataSize_Params, maxNumRangeTreeNodes);
OFF(cupti_data_size, ranges, CUpti_RangeProfiler_GetCounterDataSize_Params, maxNumOfRanges);
OFF(cupti_evaluate, names, CUpti_Profiler_Host_EvaluateToGpuValues_Params, ppMetricNames);
OFF(cupti_host_open, chip, CUpti_Profiler_Host_Initialize_Params, pChipName);
static_assert((int)CUPTI_USER_RANGE == (int)CUPTI_UserRange &&
                  (int)CUPTI_USER_REPLAY == (int)CUPTI_UserReplay &&
                  (int)CUPTI_RANGE_PROFILER == (int)CUPTI_PROFILER_TYPE_RANGE_PROFILER,
              "enums");
SAME(cupti_data_info, ranges, CUpti_RangeProfiler_GetCounterDataInfo_Params);
